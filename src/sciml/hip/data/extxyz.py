"""Extended XYZ files, read one frame at a time."""

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from ase.io.extxyz import XYZError
from numpy.typing import NDArray

from sciml.hip.data.labels import USUAL, Labels
from sciml.hip.data.record import Record
from sciml.hip.data.source import Source

STRUCTURE = {"numbers", "positions", "config_type", "rxn"}  # neither labels nor weights


class ExtxyzSource(Source):
    """Frames of an extended XYZ file.

    The energy is in the comment line; forces are a per-atom array of 3 columns; the Hessian is a
    per-atom array of 9n columns, row i the 3 × 3n block row of atom i, or 9n² numbers in the
    comment line. ``config_type``, ``rxn``, ``config_weight`` and ``config_energy_weight`` (also
    ``forces``, ``hessian``) in the comment line are understood. Opening notes where every frame
    starts, which takes one pass over the text.

    Args:
        path: The file.
        labels: Names of the labels.

    Raises:
        ValueError: If a frame is cut off or does not start with its number of atoms.
    """

    def __init__(self, path: Path, labels: Labels = USUAL) -> None:
        super().__init__(path, labels)
        self._starts, self._sizes = _index(path)

    def __len__(self) -> int:
        return len(self._sizes)

    def raw(self, index: int) -> Record:
        where = self.where(index)
        atoms = self._atoms(index)
        if atoms.pbc.any():
            raise ValueError(
                f"{where} is periodic; Hessians of periodic cells are not supported: remove its "
                "Lattice or set pbc to F F F"
            )
        values = _values(atoms)
        energy, forces, hessian = self._label_names(_labels(values), where)
        return Record(
            numbers=atoms.numbers.astype(np.int64),
            positions=atoms.positions,
            energy=None if energy is None else _number(values[energy], energy, where),
            forces=None if forces is None else np.asarray(values[forces], dtype=np.float64),
            hessian=None if hessian is None else np.asarray(values[hessian], dtype=np.float64),
            weight=_number(values.get("config_weight", 1.0), "config_weight", where),
            energy_weight=_number(values.get("config_energy_weight", 1.0), "weight", where),
            forces_weight=_number(values.get("config_forces_weight", 1.0), "weight", where),
            hessian_weight=_number(values.get("config_hessian_weight", 1.0), "weight", where),
            config_type=str(values.get("config_type", "Default")),
            identifier=index,
            reaction=int(values.get("rxn", -1)),
        )

    def names(self, index: int) -> list[str]:
        return _labels(_values(self._atoms(index)))

    def numbers(self, index: int) -> NDArray[np.int64]:
        numbers: NDArray[np.int64] = self._atoms(index).numbers.astype(np.int64)
        return numbers

    def sizes(self) -> NDArray[np.int64]:
        return self._sizes

    def _atoms(self, index: int) -> Atoms:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {self.path}, which has {len(self)}")
        start, stop = self._starts[index : index + 2].tolist()
        with self.path.open("rb") as file:
            file.seek(start)
            text = file.read(stop - start).decode()
        try:
            atoms: Atoms = read(StringIO(text), index=0, format="extxyz")  # type: ignore[assignment]
        except (XYZError, ValueError, KeyError, IndexError) as error:
            raise ValueError(
                f"{self.where(index)} cannot be understood ({error}); correct its lines"
            ) from None
        return atoms


def _index(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    starts: list[int] = [0]
    sizes: list[int] = []
    with path.open("rb") as file:
        while line := file.readline():
            if not line.strip():  # blank lines between frames
                starts[-1] = file.tell()
                continue
            where = f"record {len(sizes)} of {path}"
            if not line.strip().isdigit() or int(line) < 1:
                shown = line[:40].decode(errors="replace").strip()
                raise ValueError(
                    f"{where} starts with '{shown}' where the number of atoms is expected; "
                    "correct or remove it"
                )
            lines = [file.readline() for _ in range(int(line) + 1)]
            if not lines[-1].strip():
                raise ValueError(
                    f"{where} is cut off: {int(line)} atoms were promised; copy the file again"
                )
            sizes.append(int(line))
            starts.append(file.tell())
    return np.array(starts, dtype=np.int64), np.array(sizes, dtype=np.int64)


def _values(atoms: Atoms) -> dict[str, Any]:
    # ASE moves labels it knows from the comment line and the columns to a calculator
    results = {} if atoms.calc is None else atoms.calc.results
    return {**atoms.info, **atoms.arrays, **results}


def _labels(values: dict[str, Any]) -> list[str]:
    return [name for name in values if name not in STRUCTURE]


def _number(value: Any, name: str, where: str) -> float:
    array = np.asarray(value)
    if array.size != 1 or not np.issubdtype(array.dtype, np.number):
        raise ValueError(f"{where}: '{name}' is not a number; correct it")
    return float(array.reshape(()))
