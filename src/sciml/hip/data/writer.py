"""Files that appear under their name only when they are whole."""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py

from sciml.core.files import complete, part_of, refuse_existing
from sciml.hip.data.record import Record

UNITS = "Å, eV, eV/Å, eV/Å²"


@dataclass(frozen=True)
class Header:
    """What a file says about all of its records.

    Args:
        e0: Energy in eV of each element that is to be taken off, None if unknown.
        level_of_theory: Method of the labels.
    """

    e0: dict[int, float] | None = None
    level_of_theory: str = "unknown"


ANONYMOUS = Header()


class Writer(ABC):
    """Context that writes records one after the other to an HDF5 file.

    Everything goes to ``<path>.part``; leaving the context without an exception completes that
    file, syncs it to disk and renames it. A part that an earlier run left is overwritten.

    Args:
        path: The file to make.
        header: What it says about its records.
        compress: Compress with gzip level 1: smaller, slower to read.

    Raises:
        ValueError: If the file exists.
    """

    def __init__(self, path: Path, header: Header = ANONYMOUS, compress: bool = False) -> None:
        refuse_existing(path)
        self.path = path
        self.header = header
        self.compress = compress
        self.count = 0

    @abstractmethod
    def add(self, record: Record) -> None:
        """Append a record.

        Args:
            record: Checked, with a symmetric Hessian.
        """

    @abstractmethod
    def flush(self) -> None:
        """Write what is still in memory."""

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = h5py.File(part_of(self.path), "w")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self.count:
            self.flush()
            self.file.attrs["units"] = UNITS
            self.file.attrs["level_of_theory"] = self.header.level_of_theory
            self.file.attrs["e0"] = json.dumps(self.header.e0 or {})
        self.file.close()
        if kind is not None:
            return
        if not self.count:
            part_of(self.path).unlink()
            raise ValueError(f"no record was left to write to {self.path}; nothing was made")
        complete(self.path)
