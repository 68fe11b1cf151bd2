"""LMDB environments: opened once in a process, and never on a truncated file."""

import os
from pathlib import Path
from typing import ClassVar
from weakref import WeakValueDictionary

import lmdb


class SharedEnvironment:
    """An open environment; LMDB allows one for each file in a process, so sources share it.

    Args:
        environment: Opened by this process.
    """

    _opened: ClassVar["WeakValueDictionary[tuple[int, int], SharedEnvironment]"] = (
        WeakValueDictionary()
    )

    def __init__(self, environment: lmdb.Environment) -> None:
        self.environment = environment
        self.process = os.getpid()

    @classmethod
    def open(cls, path: Path) -> "SharedEnvironment":
        """The environment of a file, opened if this process has not opened it yet.

        Args:
            path: A file, or a folder that holds ``data.mdb``.

        Raises:
            ValueError: If the file is truncated or no LMDB.
        """
        status = (path / "data.mdb" if path.is_dir() else path).stat()
        key = (status.st_dev, status.st_ino)
        shared = cls._opened.get(key)
        if shared is not None and shared.process != os.getpid():
            shared.environment.close()  # inherited through a fork; the parent keeps its own
            shared = None
        if shared is None:
            shared = cls(_open(path))
            cls._opened[key] = shared
        return shared

    def close(self) -> None:
        """Nothing: the environment closes when no source holds it any more."""


def _open(path: Path) -> lmdb.Environment:
    try:
        environment = lmdb.open(
            str(path),
            subdir=path.is_dir(),
            readonly=True,
            lock=False,
            readahead=False,
            meminit=False,
        )
    except lmdb.Error as error:
        raise ValueError(
            f"{path} is no LMDB file or is cut off at its start ({error}); copy it again"
        ) from None
    file = path / "data.mdb" if path.is_dir() else path
    promised = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if file.stat().st_size < promised:  # a page beyond the end would kill the process
        environment.close()
        raise ValueError(
            f"{path} is truncated: {file.stat().st_size} of {promised} bytes; copy it again"
        )
    return environment
