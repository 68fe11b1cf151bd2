"""``sciml hip generate``: molecules with energies, forces and Hessians from a method."""

from pathlib import Path

from sciml.core.parallel import Backend, progress_bar
from sciml.hip.generate.dataset import Summary, generate_dataset
from sciml.hip.generate.molecules import Molecule, built_in, read_geometries, read_smiles
from sciml.hip.generate.sample import Settings


def generate(
    *,
    out: Path,
    molecules: int | None = None,
    per_molecule: int = 12,
    method: str = "gfn2-xtb",
    smiles: Path | None = None,
    xyz: Path | None = None,
    ts_fraction: float = 0.2,
    workers: int | None = None,
    seed: int = 0,
    backend: Backend = "processes",
) -> Summary:
    """Make a training set: small molecules with energies, forces and Hessians.

    Each molecule is relaxed; then come its minimum, geometries displaced along the normal modes at
    300, 1000 and 2500 K, and geometries on the way to another conformer or to a broken or formed
    bond. Geometries with atoms closer than 0.4 Å or a force above 50 eV/Å are drawn again. A run
    that was stopped goes on when it is repeated; the result does not depend on --workers.

    Args:
        out: HDF5 file to make, packed layout sciml-hip-1. It must not exist.
        molecules: Take the first so many of the list; all by default. The built-in list begins
            with the smallest.
        per_molecule: Configurations of each molecule, one of them the minimum.
        method: gfn2-xtb, gfn1-xtb, ipea1-xtb, or pyscf:<functional>/<basis> such as
            pyscf:rhf/6-31g* or pyscf:wb97x/6-31g*.
        smiles: File with a SMILES a line, instead of the built-in list.
        xyz: File of geometries to start from, instead of the built-in list.
        ts_fraction: Share of the configurations that is reaction-like, from 0 to 1.
        workers: Processes, with one thread each; by default one for every core.
        seed: Seed of the embeddings and of all draws.
        backend: serial runs everything in this process; processes starts workers.

    Returns:
        What was made, also printed.
    """
    settings = Settings(method=method, per_molecule=per_molecule, ts_fraction=ts_fraction)
    chosen = _choose(molecules, smiles, xyz)
    with progress_bar("molecules") as progress:
        summary = generate_dataset(
            out,
            chosen,
            settings,
            seed=seed,
            workers=workers,
            backend=backend,
            progress=progress,
        )
    print(summary)
    return summary


def _choose(count: int | None, smiles: Path | None, xyz: Path | None) -> list[Molecule]:
    if smiles and xyz:
        raise ValueError("give --smiles or --xyz, not both")
    if count is not None and count < 1:
        raise ValueError(f"molecules is {count}; give at least 1")
    if smiles:
        listed = read_smiles(smiles)
    else:
        listed = read_geometries(xyz) if xyz else built_in()
    if count is not None and count > len(listed):
        raise ValueError(f"--molecules {count} asks for more than the {len(listed)} in the list")
    return listed[:count]
