"""The molecules to compute: a built-in list, a file of SMILES, or a file of geometries."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase.io.formats import UnknownFileTypeError
from numpy.typing import NDArray

from sciml.core.extras import need

Array = NDArray[np.float64]

UNREADABLE = (UnknownFileTypeError, ValueError, KeyError, IndexError, OSError)


@dataclass(frozen=True, slots=True)
class Molecule:
    """A molecule to compute.

    Args:
        name: SMILES, or the formula of a molecule given by its geometry.
        numbers: Atomic numbers, hydrogen atoms included, int64 ``(n,)``.
        positions: Start in Å, shape ``(n, 3)``; None asks for an embedding of the SMILES.
    """

    name: str
    numbers: NDArray[np.int64]
    positions: Array | None = None


# Neutral closed-shell molecules of H, C, N, O by number of heavy atoms: chains and rings, single to
# triple bonds, aromatic rings, cumulenes, and the usual functional groups, also several in one.
BUILT_IN = {
    3: """CCC C=CC CC#C C=C=C C1CC1 C1=CC1 CCO COC C=CO CC=O C=C=O C1CO1 CCN CNC C=CN CC=N N=C=N
        CC#N NC#N NC=O N=C=O OC=O OCO NCO NCN COO CON CNN CNO CN=O C=NO C=NN C1CN1 O=C=O""",
    4: """CCCC CC(C)C C=CCC C/C=C/C CC(C)=C C=CC=C C=C=CC CC#CC C#CC=C C1CCC1 C1=CCC1 CC1CC1
        CCCO CC(C)O CCOC OCCO COCO C=CCO C=COC C#CCO CCC=O CC(C)=O C=CC=O C#CC=O CC=C=O O=CC=O
        CC(=O)O COC=O OCC=O OC(=O)O COOC C1COC1 CC1CO1 OC1CC1 CCCN CCNC CN(C)C NCCN NCCO CNNC
        CCC#N C=CC#N N#CC#N OCC#N NCC#N CN=C=O CC=NO CON=C CN=NC CC(N)=O CNC=O NC(N)=O NC(=N)N
        NC(=O)O C[N+](=O)[O-] CON=O C1CNC1 CC1CN1""",
    5: """CCCCC CC(C)(C)C C=CC=CC C1CCCC1 C1=CCCC1 C1=CCC=C1 CC(C)(C)O CCOCC COCOC C1CCOC1
        c1ccoc1 CC(C)C=O CCC(C)=O CC(=O)C=O O=CCC=O C=CC(C)=O CCC(=O)O COC(C)=O OCC(=O)O
        C=CC(=O)O OC(=O)C=O O=C1CCO1 C1CCNC1 c1cc[nH]c1 c1cnc[nH]1 c1cn[nH]c1 c1cocn1 c1ccno1
        c1nnc[nH]1 CN(C)C=O CNC(C)=O NC(=O)C=O NCC(=O)O CNC(N)=O N#CCC#N CC(O)C#N CC(=O)C#N
        O=C1CCN1 CNCCO CO[N+](=O)[O-]""",
    6: """c1ccccc1 c1ccncc1 c1cnccn1 c1cncnc1 C1CCCCC1 C1=CCCCC1 C1CCOCC1 C1COCCO1 C1CCNCC1
        C1COCCN1 Cc1ccco1 Cc1cc[nH]c1 Cn1ccnc1 O=C1CCCC1 O=C1CCCO1 O=C1CCCN1 CCOC(C)=O CC(=O)C(=O)O
        CC(O)C(=O)O CC(N)C(=O)O OCC(O)CO OC(=O)C(=O)O CN(C)C(C)=O""",
    7: """Cc1ccccc1 Oc1ccccc1 Nc1ccccc1 Oc1ccccn1 O=C1CCCCC1 C1CC2CCC1C2 CC(=O)CC(C)=O
        OCC(N)C(=O)O O=C1CCC(=O)N1 CN1CCNCC1""",
    8: """O=Cc1ccccc1 N#Cc1ccccc1 COc1ccccc1 C=Cc1ccccc1 O=c1cc[nH]c(=O)[nH]1 Nc1ccnc(=O)[nH]1
        CC(=O)NCC(N)=O O=C1C=CC(=O)C=C1 C1CN2CCC1CC2 CC(O)C(N)C(=O)O""",
    9: """c1ccc2[nH]ccc2c1 OC(=O)c1ccccc1 NC(=O)c1ccccc1 Cc1c[nH]c(=O)[nH]c1=O
        NC(CC(=O)O)C(=O)O C[C@H](N)C(=O)NCC=O""",
}


def built_in() -> list[Molecule]:
    """The built-in molecules, the smallest first."""
    return [parse_smiles(smiles) for block in BUILT_IN.values() for smiles in block.split()]


def read_smiles(path: Path) -> list[Molecule]:
    """Molecules of a text file: a SMILES a line, anything after it is not read.

    Empty lines and lines that begin with ``#`` are skipped.

    Args:
        path: The file.

    Returns:
        The molecules in the order of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is no SMILES of a neutral molecule, naming the line.
    """
    _must_exist(path, "--smiles")
    molecules = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            molecules.append(parse_smiles(line.split()[0], where=f"{path}, line {number}: "))
    if not molecules:
        raise ValueError(f"{path} holds no SMILES; give one a line")
    return molecules


def read_geometries(path: Path) -> list[Molecule]:
    """Molecules of a file of geometries, one a frame, in any format that ASE reads.

    Args:
        path: The file, usually xyz or extxyz.

    Returns:
        The molecules in the order of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or a frame is an atom or a crystal.
    """
    _must_exist(path, "--xyz")
    try:
        frames = ase.io.read(path, index=":")
    except (
        ase.io.formats.UnknownFileTypeError,
        ValueError,
        KeyError,
        IndexError,
        OSError,
    ) as error:
        raise ValueError(f"{path} cannot be read as geometries: {error}") from error
    if not frames:
        raise ValueError(f"{path} holds no geometry")
    for index, atoms in enumerate(frames):
        if len(atoms) < 2:
            raise ValueError(f"frame {index} of {path} is an atom: nothing in it can vibrate")
        if atoms.pbc.any() or not atoms.numbers.all():
            what = "is periodic" if atoms.pbc.any() else "holds dummy atoms"
            raise ValueError(f"frame {index} of {path} {what}; give molecules")
    return [
        Molecule(
            atoms.get_chemical_formula(),
            atoms.numbers.astype(np.int64),
            atoms.positions.astype(np.float64),
        )
        for atoms in frames
    ]


def parse_smiles(smiles: str, where: str = "") -> Molecule:
    """The molecule of a SMILES, without a geometry.

    Args:
        smiles: Its text.
        where: Beginning of the sentence of an error.

    Returns:
        The molecule, with its hydrogen atoms.

    Raises:
        ValueError: If it is no SMILES, is charged, or is not one molecule of two atoms or more.
    """
    graph = _graph(smiles)
    if graph is None:
        raise ValueError(f"{where}'{smiles}' is not a valid SMILES")
    charge = sum(atom.GetFormalCharge() for atom in graph.GetAtoms())
    if charge != 0:
        raise ValueError(f"{where}'{smiles}' has the charge {charge:+d}; give neutral molecules")
    if "." in smiles:
        raise ValueError(f"{where}'{smiles}' is more than one molecule; give each its own line")
    if graph.GetNumAtoms() < 2:
        raise ValueError(f"{where}'{smiles}' is an atom: nothing in it can vibrate")
    numbers = [atom.GetAtomicNum() for atom in graph.GetAtoms()]
    return Molecule(smiles, np.array(numbers, dtype=np.int64))


def embed(smiles: str, seed: int, count: int) -> list[Array]:
    """Conformers by distance geometry, refined by a force field where that has the parameters.

    Args:
        smiles: A valid SMILES.
        seed: Seed of the distance geometry.
        count: How many to try.

    Returns:
        Coordinates in Å of one conformer or more, shape ``(n, 3)`` each.

    Raises:
        ValueError: If none can be embedded.
    """
    chemistry: Any = need("rdkit.Chem.AllChem", extra="qm")
    graph = _graph(smiles)
    parameters = chemistry.ETKDGv3()
    parameters.randomSeed = seed % (2**31 - 1)
    parameters.numThreads = 1
    if not list(chemistry.EmbedMultipleConfs(graph, count, parameters)):
        parameters.useRandomCoords = True
        if not list(chemistry.EmbedMultipleConfs(graph, count, parameters)):
            raise ValueError(f"'{smiles}' cannot be embedded in three dimensions")
    if chemistry.MMFFHasAllMoleculeParams(graph):
        chemistry.MMFFOptimizeMoleculeConfs(graph, numThreads=1)
    return [conformer.GetPositions() for conformer in graph.GetConformers()]


def elements(molecules: Sequence[Molecule]) -> list[int]:
    """Atomic numbers that occur, ascending."""
    return sorted({int(number) for molecule in molecules for number in molecule.numbers})


def _graph(smiles: str) -> Any:
    """Graph with hydrogen atoms, None if the text is no SMILES."""
    chemistry: Any = need("rdkit.Chem", extra="qm")
    logs: Any = need("rdkit.rdBase", extra="qm")
    with logs.BlockLogs():  # the sentence of an error is ours
        graph = chemistry.MolFromSmiles(smiles)
    return None if graph is None else chemistry.AddHs(graph)


def _must_exist(path: Path, flag: str) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check {flag}")
