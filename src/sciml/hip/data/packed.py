"""The packed HDF5 layout ``sciml-hip-1``: flat arrays and pointers (M molecules of n atoms).

Attributes: ``format`` = ``sciml-hip-1``; ``units``; ``level_of_theory``; ``e0`` = JSON of atomic
number to reference energy in eV, ``{}`` when unknown.

================================= =================== ============================================
dataset                           type, length        content
================================= =================== ============================================
``ptr``                           i8, M + 1           first atom of every molecule
``z``, ``pos``, ``forces``        i1, f8, f4, Σn      atomic numbers, coordinates, forces
``energy``                        f8, M               total energy
``hess_ptr``                      i8, M + 1           first number of every Hessian
``hessian``                       f4                  lower triangles, row by row; empty: no label
``weight``, ``id``, ``head``      f4, i8, i1, M       loss factor, name, level of theory
``w_energy|forces|hessian``       f4, M, optional     further loss factors; 0: no such label
``rxn``                           i8, M, optional     reaction number, -1: unknown
``config_type``                   text, M, optional   free label
================================= =================== ============================================
"""

import json
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sciml.hip.data.handle import DAMAGED, Handle, open_hdf5
from sciml.hip.data.labels import USUAL, Labels
from sciml.hip.data.record import Record, formula
from sciml.hip.data.source import Source
from sciml.hip.data.writer import ANONYMOUS, Header, Writer

FORMAT = "sciml-hip-1"
CHUNK = 1 << 20  # bytes of a chunk
FLUSH = 8 << 20  # bytes of Hessians in memory before they are written
STRUCTURE = {"ptr", "z", "pos", "hess_ptr", "head", "weight", "id", "rxn", "config_type"} | {
    "w_energy",
    "w_forces",
    "w_hessian",
}


class PackedSource(Source):
    """Records of a file in the packed layout.

    Args:
        path: The file.
        labels: Names of the labels; forces and Hessians are found through ``ptr`` and ``hess_ptr``.

    Raises:
        ValueError: If a dataset that every such file has is missing.
    """

    def __init__(self, path: Path, labels: Labels = USUAL) -> None:
        super().__init__(path, labels)
        self._handle = Handle(partial(_Datasets, path))
        with open_hdf5(path) as file:
            absent = [name for name in ("ptr", "z", "pos") if name not in file]
            if absent:
                raise ValueError(f"{path} has no '{absent[0]}'; it is no {FORMAT} file: convert it")
            self._names = [name for name in file if name not in STRUCTURE]
            self._present = set(file)
            self._count = len(file["ptr"]) - 1
            self._theory = str(file.attrs.get("level_of_theory", "unknown"))
            stored = json.loads(file.attrs.get("e0", "{}"))
        self._e0 = {int(number): float(energy) for number, energy in stored.items()}
        self._keys = self._label_names(self._names, str(path))

    def __len__(self) -> int:
        return self._count

    def raw(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {self.path}, which has {len(self)}")
        try:
            return self._record(index)
        except (OSError, KeyError, IndexError) as error:
            raise ValueError(f"{self.where(index)} cannot be read ({error}); {DAMAGED}") from None

    def names(self, index: int) -> list[str]:
        return list(self._names)

    def sizes(self) -> NDArray[np.int64]:
        sizes: NDArray[np.int64] = np.diff(self._dataset("ptr")[:].astype(np.int64))
        return sizes

    def numbers(self, index: int) -> NDArray[np.int64]:
        start, stop = self._dataset("ptr")[index : index + 2].tolist()
        numbers: NDArray[np.int64] = self._dataset("z")[start:stop].astype(np.int64)
        return numbers

    def formulas(self) -> list[str]:
        numbers = self._dataset("z")[:].astype(np.int64)
        return [formula(part) for part in np.split(numbers, self._dataset("ptr")[1:-1])]

    def reaction(self, index: int) -> int:
        return int(self._scalar("rxn", index, -1))

    def reactions(self) -> NDArray[np.int64]:
        if "rxn" not in self._present:
            return np.full(len(self), -1, dtype=np.int64)
        reactions: NDArray[np.int64] = self._dataset("rxn")[:].astype(np.int64)
        return reactions

    @property
    def declared_e0(self) -> dict[int, float] | None:
        """The ``e0`` attribute, None if it is empty."""
        return dict(self._e0) or None

    @property
    def level_of_theory(self) -> str:
        """The ``level_of_theory`` attribute."""
        return self._theory

    def close(self) -> None:
        self._handle.close()

    def _record(self, index: int) -> Record:
        energy, forces, hessian = self._keys
        start, stop = self._dataset("ptr")[index : index + 2].tolist()
        atoms = slice(start, stop)
        weights = [
            float(self._scalar(f"w_{name}", index, 1)) for name in ("energy", "forces", "hessian")
        ]
        kind = self._scalar("config_type", index, b"Default")
        has_energy = energy is not None and weights[0] != 0
        return Record(
            numbers=self._dataset("z")[atoms],
            positions=self._dataset("pos")[atoms],
            energy=float(self._dataset(energy)[index]) if has_energy and energy else None,
            forces=self._dataset(forces)[atoms] if forces and weights[1] != 0 else None,
            hessian=self._hessian(hessian, index, stop - start) if weights[2] != 0 else None,
            weight=float(self._scalar("weight", index, 1)),
            energy_weight=weights[0],
            forces_weight=weights[1],
            hessian_weight=weights[2],
            config_type=kind.decode() if isinstance(kind, bytes) else str(kind),
            identifier=int(self._scalar("id", index, index)),
            reaction=int(self._scalar("rxn", index, -1)),
            head=int(self._scalar("head", index, 0)),
        )

    def _hessian(self, name: str | None, index: int, atoms: int) -> NDArray[np.float64] | None:
        if name is None or "hess_ptr" not in self._present:
            return None
        start, stop = self._dataset("hess_ptr")[index : index + 2].tolist()
        if start == stop:
            return None
        size = 3 * atoms
        packed = self._dataset(name)[start:stop]
        if len(packed) != size * (size + 1) // 2:
            raise ValueError(
                f"{self.where(index)}: the packed Hessian has {len(packed)} numbers where "
                f"{size * (size + 1) // 2} are expected for {atoms} atoms; {DAMAGED}"
            )
        return unpack(packed, size)

    def _dataset(self, name: str) -> Any:
        return self._handle.get().dataset(name)

    def _scalar(self, name: str, index: int, absent: Any) -> Any:
        return self._dataset(name)[index] if name in self._present else absent


class _Datasets:
    """An open file that looks every dataset up once: names cost more than numbers."""

    def __init__(self, path: Path) -> None:
        self.file = open_hdf5(path)
        self.known: dict[str, Any] = {}

    def dataset(self, name: str) -> Any:
        if name not in self.known:
            self.known[name] = self.file[name]
        return self.known[name]

    def close(self) -> None:
        self.known.clear()
        self.file.close()


class PackedWriter(Writer):
    """Write records in the packed layout; at most some megabytes are in memory at a time.

    Args:
        path: The file to make.
        header: What it says about its records.
        compress: Compress with gzip level 1: smaller, slower to read.
    """

    def __init__(self, path: Path, header: Header = ANONYMOUS, compress: bool = False) -> None:
        super().__init__(path, header, compress)
        self._waiting: dict[str, list[NDArray[Any]]] = {}
        self._bytes = 0
        self._atoms = self._entries = 0
        self._rows: dict[str, int] = {}

    def add(self, record: Record) -> None:
        size = 3 * len(record.numbers)
        triangle = np.zeros(0) if record.hessian is None else record.hessian[lower(size)]
        if self.count == 0:
            self._keep(ptr=[0], hess_ptr=[0])
        self.count += 1
        self._atoms += len(record.numbers)
        self._entries += len(triangle)
        forces = np.zeros((size // 3, 3)) if record.forces is None else record.forces
        self._keep(
            ptr=[self._atoms],
            hess_ptr=[self._entries],
            z=record.numbers,
            pos=record.positions,
            energy=[np.nan if record.energy is None else record.energy],
            forces=forces,
            hessian=triangle,
            weight=[record.weight],
            w_energy=[0.0 if record.energy is None else record.energy_weight],
            w_forces=[0.0 if record.forces is None else record.forces_weight],
            w_hessian=[0.0 if record.hessian is None else record.hessian_weight],
            id=[record.identifier],
            head=[record.head],
            rxn=[record.reaction],
            config_type=np.array([record.config_type], dtype=object),
        )
        self._bytes += 4 * len(triangle)
        if self._bytes > FLUSH:
            self.flush()

    def _keep(self, **columns: Sequence[float] | NDArray[Any]) -> None:
        for name, values in columns.items():
            self._waiting.setdefault(name, []).append(np.asarray(values, dtype=COLUMNS[name]))

    def flush(self) -> None:
        self.file.attrs["format"] = FORMAT
        for name, parts in self._waiting.items():
            values = np.concatenate(parts)
            start = self._rows.get(name, 0)
            if name not in self.file:
                self._create(name, values)
            dataset = self.file[name]
            dataset.resize(start + len(values), axis=0)
            dataset[start:] = values
            self._rows[name] = start + len(values)
        self._waiting.clear()
        self._bytes = 0

    def _create(self, name: str, first: NDArray[Any]) -> None:
        width = 16 if first.dtype == object else first.itemsize  # 16: a reference to text
        row = width * int(np.prod(first.shape[1:]))
        # a compressed chunk is decompressed whole for every record: keep it small
        chunk = CHUNK // 16 if self.compress else CHUNK
        rows = max(min(chunk // row, len(first)), 1)  # a small file gets small chunks
        self.file.create_dataset(
            name,
            shape=(0, *first.shape[1:]),
            maxshape=(None, *first.shape[1:]),
            chunks=(rows, *first.shape[1:]),
            dtype=h5py.string_dtype() if first.dtype == object else first.dtype,
            **({"compression": "gzip", "compression_opts": 1} if self.compress else {}),
        )


COLUMNS: dict[str, Any] = {
    "ptr": np.int64,
    "z": np.int8,
    "pos": np.float64,
    "energy": np.float64,
    "forces": np.float32,
    "hess_ptr": np.int64,
    "hessian": np.float32,
    "weight": np.float32,
    "w_energy": np.float32,
    "w_forces": np.float32,
    "w_hessian": np.float32,
    "id": np.int64,
    "head": np.int8,
    "rxn": np.int64,
    "config_type": object,
}


def unpack(triangle: NDArray[Any], size: int) -> NDArray[np.float64]:
    """Symmetric matrix from its lower triangle.

    Args:
        triangle: Numbers row by row, shape ``(size (size + 1) / 2,)``.
        size: Rows of the matrix.

    Returns:
        The matrix, float64, shape ``(size, size)``.
    """
    matrix = np.empty((size, size))
    rows, columns = lower(size)
    matrix[rows, columns] = triangle
    matrix[columns, rows] = triangle
    return matrix


@cache
def lower(size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the lower triangle of a square matrix, row by row.

    Args:
        size: Rows of the matrix.
    """
    rows, columns = np.tril_indices(size)
    return rows, columns
