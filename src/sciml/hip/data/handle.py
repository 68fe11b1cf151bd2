"""Files that every process opens for itself, when it first needs them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import h5py

DAMAGED = "the file is truncated or damaged: copy it again"


class Closable(Protocol):
    """Anything with a ``close``."""

    def close(self) -> None:
        """Give the file back."""


T = TypeVar("T", bound=Closable)


class Handle(Generic[T]):
    """An open file that is never shared between processes.

    Loader workers receive either a pickle, which leaves the open file behind, or a fork of the
    process, in which the inherited file is closed and opened afresh: two processes that read
    through one descriptor would move each other's position.

    Args:
        open_file: Opens the file; a function or partial that can be pickled.
    """

    def __init__(self, open_file: Callable[[], T]) -> None:
        self._open_file = open_file
        self._file: T | None = None
        self._process = 0

    def get(self) -> T:
        """The file, opened if this process has not opened it yet."""
        if self._file is not None and self._process != os.getpid():
            self.close()
        if self._file is None:
            self._file = self._open_file()
            self._process = os.getpid()
        return self._file

    def close(self) -> None:
        """Close the file; the next `get` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_open_file": self._open_file, "_file": None, "_process": 0}


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        ValueError: If it is truncated or no HDF5 file.
    """
    try:
        # whole chunks in a cache would be read for every record: without, only its bytes are
        return h5py.File(path, "r", rdcc_nbytes=0)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be opened as HDF5, it is truncated or damaged ({error}); copy it again"
        ) from None
