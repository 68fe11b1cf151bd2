"""``sciml astrochem generate``: tracers with the chemistry along their histories."""

from pathlib import Path

from sciml.astrochem.generate.dataset import Summary, generate_dataset
from sciml.astrochem.generate.histories import Family
from sciml.astrochem.generate.settings import Backend, Settings
from sciml.astrochem.generate.tables import read_histories
from sciml.core.parallel import progress_bar


def generate(
    *,
    out: Path,
    family: Family = "grav",
    tracers: int = 120,
    steps: int = 100,
    dt: float = 1e4,
    seed: int = 0,
    workers: int | None = None,
    evolved_fraction: float = 0.3,
    backend: Backend = "embedded",
    network: Path | None = None,
    network_species: Path | None = None,
    histories: Path | None = None,
    group: str | None = None,
    zeta: float = 1.0,
    cpu_limit: float = 60.0,
) -> Summary:
    """Make a training set: gas parcels with their conditions and abundances over time.

    Each tracer follows a history of density, radiation, extinction and temperature; its chemistry
    is integrated step by step. A run that was stopped goes on when it is repeated; the result does
    not depend on --workers.

    Args:
        out: HDF5 file to make, layout sciml-astrochem-1. It must not exist.
        family: grav (collapse of a dense core), collapse (broader), static, turbulent, hotcore,
            shock, or csv for the histories of a table.
        tracers: How many; with csv all of the table.
        steps: Steps of each; with csv those of the table.
        dt: Length of a step in years; with csv that of the table.
        seed: Seed of histories and starts.
        workers: Processes, with one thread each; by default one for every core.
        evolved_fraction: Share of the tracers that starts from evolved chemistry, from 0 to 1; the
            others start from atoms, ions and H2.
        backend: embedded needs nothing else; uclchem needs that package.
        network: Reactions of your own network, csv with type, r1, r2, p1 to p4, alpha, beta, gamma,
            tmin, tmax.
        network_species: Its species, csv with name, mass_amu, charge, phase, binding_energy_K and a
            column for each element.
        histories: Table of the family csv, with the columns tracer, time (yr), density (H nuclei
            per cm³), radfield (Habing), av (mag), temperature (K).
        group: Group of the file that holds the tracers; the family by default.
        zeta: Cosmic-ray ionisation in units of 1.3e-17 per second.
        cpu_limit: CPU seconds that UCLCHEM may use for a step.

    Returns:
        What was made, also printed.
    """
    settings = Settings(
        family=family,
        steps=steps,
        dt=dt,
        evolved_fraction=evolved_fraction,
        backend=backend,
        network=network,
        network_species=network_species,
        zeta=zeta,
        cpu_limit=cpu_limit,
    )
    chosen = read_histories(histories) if histories else tracers
    with progress_bar("tracers") as progress:
        summary = generate_dataset(
            out, settings, chosen, group=group, seed=seed, workers=workers, progress=progress
        )
    print(summary)
    return summary
