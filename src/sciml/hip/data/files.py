"""Any data file, folder or pattern to a source of records."""

from collections.abc import Sequence
from glob import glob
from pathlib import Path

import h5py

from sciml.hip.data.extxyz import ExtxyzSource
from sciml.hip.data.groups import GroupsSource
from sciml.hip.data.handle import open_hdf5
from sciml.hip.data.labels import USUAL, Labels
from sciml.hip.data.lmdb import LmdbSource
from sciml.hip.data.packed import FORMAT, PackedSource
from sciml.hip.data.source import Joined, Source

HDF5_START = b"\x89HDF\r\n\x1a\n"
LMDB_START = b"\xde\xc0\xef\xbe"  # magic number of the first page, little endian
LMDB_OFFSET = 16  # bytes of the page header before it
KINDS = {
    ".lmdb": "LMDB",
    ".mdb": "LMDB",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
}


def open_source(paths: str | Path | Sequence[str | Path], labels: Labels = USUAL) -> Source:
    """Records of files, folders and patterns, one after the other.

    Args:
        paths: A file; a folder, whose data files are joined in the order of their names; a pattern
            with ``*``; or several of these. A file's content says what it is.
        labels: Names of the labels in the files.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file is of an unknown kind, damaged or without records.
    """
    sources = [open_file(path, labels) for path in expand(paths)]
    return sources[0] if len(sources) == 1 else Joined(sources)


def open_file(path: Path, labels: Labels = USUAL) -> Source:
    """Records of one file.

    Args:
        path: HDF5 of either layout, LMDB (also a folder with ``data.mdb``) or extended XYZ.
        labels: Names of the labels in the file.

    Raises:
        ValueError: If the file is of an unknown kind, damaged or without records.
    """
    kind = kind_of(path)
    source: Source
    if kind == "LMDB":
        source = LmdbSource(path, labels)
    elif kind == "extxyz":
        source = ExtxyzSource(path, labels)
    elif _is_packed(path):
        source = PackedSource(path, labels)
    else:
        source = GroupsSource(path, labels)
    if not len(source):
        raise ValueError(f"{path} holds no records; give a file with molecules")
    return source


def kind_of(path: Path) -> str:
    """``LMDB``, ``HDF5`` or ``extxyz``, by the first bytes of a file, else by its suffix.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If neither tells.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file {path}; check the path, or make it: sciml hip generate")
    if path.is_dir():
        return "LMDB"
    with path.open("rb") as file:
        start = file.read(LMDB_OFFSET + len(LMDB_START))
    if start.startswith(HDF5_START):
        return "HDF5"
    if start[LMDB_OFFSET:] == LMDB_START:
        return "LMDB"
    kind = KINDS.get(path.suffix.lower())
    if kind == "extxyz":
        return kind
    if kind is not None:
        raise ValueError(f"{path} is no {kind} file though its name says so; copy it again")
    raise ValueError(
        f"{path} is of an unknown kind; give one of {', '.join(KINDS)}, or a folder of such files"
    )


def expand(paths: str | Path | Sequence[str | Path], *, missing_ok: bool = False) -> list[Path]:
    """The files behind files, folders and patterns, in order.

    Args:
        paths: One or several.
        missing_ok: Leave out what does not exist.

    Raises:
        FileNotFoundError: If a pattern or folder has no data file, or nothing is given.
        ValueError: If the files of a folder are of different kinds.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    if missing_ok:
        paths = [path for path in paths if Path(path).exists() or glob(str(path))]
    found = [path for given in paths for path in _expand_one(str(given))]
    if not found and not missing_ok:
        raise FileNotFoundError("no data file was given; name at least one")
    return found


def _expand_one(given: str) -> list[Path]:
    path = Path(given)
    if not path.exists() and any(mark in given for mark in "*?["):
        matches = sorted(glob(given))
        if not matches:
            raise FileNotFoundError(f"no file matches {given}; check the pattern")
        return [file for match in matches for file in _expand_one(match)]
    if not path.is_dir() or (path / "data.mdb").exists():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in KINDS)
    if not files:
        raise FileNotFoundError(
            f"the folder {path} has no data file; give one with {', '.join(KINDS)} files"
        )
    kinds = {KINDS[file.suffix.lower()] for file in files}
    if len(kinds) > 1:  # the same molecules are often kept in two formats
        raise ValueError(
            f"the folder {path} mixes {' and '.join(sorted(kinds))} files; name the ones you mean, "
            f"such as {path}/*{files[0].suffix}"
        )
    return files


def _is_packed(path: Path) -> bool:
    with open_hdf5(path) as file:
        named = file.attrs.get("format")
        if named is not None and named != FORMAT:
            raise ValueError(
                f"{path} has the format '{named}', this version reads '{FORMAT}'; convert it again"
            )
        return named == FORMAT or isinstance(file.get("ptr"), h5py.Dataset)
