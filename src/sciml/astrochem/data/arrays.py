"""Tracers in npy and csv files."""

import csv
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from sciml.astrochem.data.grid import Grid


class ArrayFile:
    """A two-dimensional array in an npy file, read by rows without mapping the file.

    Args:
        path: The file.

    Raises:
        ValueError: If it is no such array, or shorter than it says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            shape, is_fortran, self.dtype = _header(path, file)
            self.offset = file.tell()
        if len(shape) != 2 or is_fortran or self.dtype.kind not in "fiu":
            raise ValueError(f"{path} is no array of rows of numbers in C order; save it again")
        self.shape: tuple[int, int] = (shape[0], shape[1])
        self.row_bytes = self.shape[1] * self.dtype.itemsize
        if path.stat().st_size < self.offset + self.shape[0] * self.row_bytes:
            raise ValueError(f"{path} is cut short: it has fewer than its {shape[0]} rows")

    def read(self, first: int, last: int) -> NDArray[Any]:
        """Consecutive rows, ``(last - first, columns)``."""
        count = (last - first) * self.shape[1]
        place = self.offset + first * self.row_bytes
        values = np.fromfile(self.path, self.dtype, count=count, offset=place)
        return values.reshape(last - first, self.shape[1])


class ArrayGrid(Grid):
    """``<name>.npy`` whose columns ``<name>_columns.json`` names by number.

    Args:
        path: The array.

    Raises:
        FileNotFoundError: If the names are missing.
        ValueError: If they do not fit.
    """

    def __init__(self, path: Path) -> None:
        names = path.with_name(f"{path.stem}_columns.json")
        if not names.is_file():
            raise FileNotFoundError(f"{names} is missing; it names the columns of {path}")
        self.array = ArrayFile(path)
        given = json.loads(names.read_text())
        width = self.array.shape[1]
        if sorted(given) != sorted(map(str, range(width))):
            raise ValueError(f"{names} does not name the columns 0 to {width - 1} of {path}")
        super().__init__(path, [given[str(place)] for place in range(width)], self.array.shape[0])

    def read(self, first: int, last: int, places: Sequence[int]) -> NDArray[Any]:
        return self.array.read(first, last)[:, list(places)]


class TextGrid(Grid):
    """Comma-separated files with the same header, one after the other.

    Args:
        path: A file, or a folder of ``*.csv`` in the order of their names.

    Raises:
        ValueError: If there is none, or the headers differ.
    """

    def __init__(self, path: Path) -> None:
        self.parts = sorted(path.glob("*.csv")) if path.is_dir() else [path]
        if not self.parts:
            raise ValueError(f"{path} is a folder without csv files; name a file of tracers")
        headers = [_text_header(part) for part in self.parts]
        for part, header in zip(self.parts, headers, strict=True):
            if header != headers[0]:
                raise ValueError(f"{part} does not have the columns of {self.parts[0]}")
        self.lengths = [_count_rows(part) for part in self.parts]
        super().__init__(path, headers[0], sum(self.lengths))
        self._kept: tuple[Path, NDArray[np.float64]] | None = None

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Row after the last one of every file."""
        return np.cumsum(self.lengths)

    def read(self, first: int, last: int, places: Sequence[int]) -> NDArray[Any]:
        found = [np.zeros((0, len(places)))]
        for part, end, length in zip(self.parts, self.ends.tolist(), self.lengths, strict=True):
            start = end - length
            if start < last and end > first:
                rows = self._load(part)[max(first - start, 0) : last - start]
                found.append(rows[:, list(places)])
        return np.concatenate(found)

    def _load(self, part: Path) -> NDArray[np.float64]:
        """All rows of a file; the last one is kept, for it is read slab after slab."""
        if self._kept is None or self._kept[0] != part:
            try:
                rows = np.loadtxt(part, delimiter=",", skiprows=1, ndmin=2)
            except ValueError as error:
                raise ValueError(f"{part} has a row that is not numbers alone: {error}") from None
            self._kept = part, rows
        return self._kept[1]


def _header(path: Path, file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        return read(file)
    except ValueError as error:
        raise ValueError(f"{path} is no npy file ({error}); save it again") from None


def _text_header(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        first = next(csv.reader(file), [])
    return [label.strip() for label in first]


def _count_rows(path: Path) -> int:
    with path.open(encoding="utf-8") as file:
        return max(sum(1 for line in file if line.strip()) - 1, 0)
