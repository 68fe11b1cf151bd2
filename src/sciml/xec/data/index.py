"""How many events the files have before any is read, remembered between runs."""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import NDArray

from sciml.xec.data.branches import (
    ALIASES,
    BadFileError,
    Branch,
    Layout,
    Units,
    branches_of,
    describe,
    find_layout,
    quantities,
)
from sciml.xec.data.cuts import NO_CUTS, Cuts
from sciml.xec.data.root import RootFile

OnBadFile = Literal["fail", "skip"]
FORMAT = 1  # of the remembered files; another number makes them anew
STEP = 1 << 16  # entries whose truths are looked at together
UNITS = Units()


@dataclass(frozen=True)
class FileIndex:
    """What is known of a file without reading its events.

    Args:
        path: The file.
        size: Bytes.
        modified: Time of its last change in ns.
        entries: Events.
        edges: First entry of every basket of photon counts, and the number of entries.
        branches: Those of the tree.
        kept: Which entries pass the cuts; None for all.
    """

    path: Path
    size: int
    modified: int
    entries: int
    edges: NDArray[np.int64]
    branches: Mapping[str, Branch]
    kept: NDArray[np.bool_] | None = None

    @cached_property
    def layout(self) -> Layout:
        """Branches that hold the quantities of a batch."""
        return find_layout(self.branches, str(self.path))

    @property
    def dropped(self) -> int:
        """Events that the cuts leave out."""
        return 0 if self.kept is None else int(len(self.kept) - self.kept.sum())

    def check_unchanged(self) -> None:
        """Compare the file with what was indexed.

        Raises:
            FileNotFoundError: If it is gone.
            BadFileError: If its size or its time of change differ.
        """
        if _stamp(self.path) != (self.size, self.modified):
            raise BadFileError(
                f"{self.path} has changed since its events were counted; start again"
            )


@dataclass(frozen=True)
class Index:
    """Files whose lengths are known.

    Args:
        files: Those that can be used.
        bad: What is wrong with each of the others.
    """

    files: list[FileIndex]
    bad: list[str] = field(default_factory=list)

    @property
    def available(self) -> tuple[str, ...]:
        """Quantities that all files have."""
        layouts = [file.layout for file in self.files]
        in_all = [name for name in ALIASES if all(name in layout for layout in layouts)]
        return tuple(in_all) if layouts else ()


@dataclass(frozen=True)
class Indexing:
    """How files are looked at.

    Args:
        tree: Name of their tree.
        cuts: Which events are used.
        units: Of the truths that the cuts look at.
        on_bad_file: Whether a file that cannot be used ends the run or is left out.
        cache: Folder where the result is kept; by default one of the user's.
    """

    tree: str = "tree"
    cuts: Cuts = NO_CUTS
    units: Units = UNITS
    on_bad_file: OnBadFile = "fail"
    cache: Path | None = None

    def key(self, path: Path) -> str:
        """Name under which the index of a file is kept."""
        cut = [asdict(self.cuts), asdict(self.units)] if self.cuts.needs else []
        words = [FORMAT, os.path.realpath(path), self.tree, *cut]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:32]


def build_index(paths: Sequence[Path], indexing: Indexing) -> Index:
    """Look at the headers of files, and with cuts at the truths they need.

    Args:
        paths: The files; all exist.
        indexing: How.

    Raises:
        FileNotFoundError: If a file is missing.
        BadFileError: If a file cannot be used and must not be left out.
        ValueError: If the folder of the cache is one of the data.
    """
    folder = indexing.cache or user_cache()
    if folder.resolve() in {path.resolve().parent for path in paths}:
        raise ValueError(f"{folder} holds the data; choose another folder for the cache")
    files, bad = [], []
    for path in paths:
        try:
            files.append(_recall(path, indexing, folder) or _remember(path, indexing, folder))
        except BadFileError as error:
            if indexing.on_bad_file == "fail":
                raise
            bad.append(str(error))
    if bad:
        rank_zero_warn(f"{len(bad)} of {len(paths)} files are left out: {'; '.join(bad)}")
    return Index(files, bad)


def user_cache() -> Path:
    """Folder of the user's for what can be made anew."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sciml" / "xec"


def look_at(path: Path, indexing: Indexing) -> FileIndex:
    """Index one file.

    Args:
        path: The file.
        indexing: How.

    Raises:
        FileNotFoundError: If it is missing.
        BadFileError: If it cannot be used.
    """
    size, modified = _stamp(path)
    file = RootFile(path, indexing.tree)
    try:
        if not file.entries:
            raise BadFileError(f"the tree '{indexing.tree}' of {path} has no entries")
        layout = find_layout(file.branches, str(path))
        kept = _passing(file, layout, indexing) if indexing.cuts.needs else None
        edges = file.edges(layout["npho"])
        return FileIndex(path, size, modified, file.entries, edges, file.branches, kept)
    finally:
        file.close()


def missing(name: str, file: FileIndex, needed_by: str) -> str:
    """Sentence about a quantity that a file does not have.

    Args:
        name: The quantity.
        file: The file.
        needed_by: What asks for it.
    """
    return _missing(name, file.branches, str(file.path), needed_by)


def _missing(name: str, branches: Mapping[str, Branch], where: str, needed_by: str) -> str:
    return (
        f"{where} has no usable branch {' or '.join(ALIASES[name])}, which {needed_by} needs; "
        f"its branches are {describe(branches)}"
    )


def _passing(file: RootFile, layout: Layout, indexing: Indexing) -> NDArray[np.bool_]:
    cuts = indexing.cuts
    for name, setting in cuts.needs.items():
        if name not in layout:
            raise BadFileError(_missing(name, file.branches, str(file.path), setting))
    names = tuple(cuts.needs)
    types = branches_of(layout, names)
    parts = []
    for start in range(0, file.entries, STEP):
        raw = file.read(types, start, min(start + STEP, file.entries))
        parts.append(cuts.passing(quantities(raw, layout, names, indexing.units)))
    return np.concatenate(parts)


def _stamp(path: Path) -> tuple[int, int]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _recall(path: Path, indexing: Indexing, folder: Path) -> FileIndex | None:
    """The index of an earlier run, if it is readable and the file has not changed since."""
    place = folder / f"{indexing.key(path)}.npz"
    if not place.is_file():
        return None
    try:
        with np.load(io.BytesIO(place.read_bytes()), allow_pickle=False) as stored:
            content = dict(stored)
        about = json.loads(str(content["about"]))
        if (about["size"], about["modified"]) != _stamp(path):
            return None
        return _unpacked(path, about, content)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _unpacked(path: Path, about: dict[str, Any], content: dict[str, Any]) -> FileIndex:
    entries = int(about["entries"])
    branches = {
        name: Branch(None if shape is None else tuple(shape), kind)
        for name, (shape, kind) in about["branches"].items()
    }
    packed = content.get("kept")
    kept = None if packed is None else np.unpackbits(packed, count=entries).astype(np.bool_)
    size, modified = about["size"], about["modified"]
    return FileIndex(path, size, modified, entries, content["edges"], branches, kept)


def _remember(path: Path, indexing: Indexing, folder: Path) -> FileIndex:
    found = look_at(path, indexing)
    about = {
        "size": found.size,
        "modified": found.modified,
        "entries": found.entries,
        "branches": {name: (one.shape, one.kind) for name, one in found.branches.items()},
    }
    arrays: dict[str, NDArray[Any]] = {"about": np.array(json.dumps(about)), "edges": found.edges}
    if found.kept is not None:
        arrays["kept"] = np.packbits(found.kept)
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    place = folder / f"{indexing.key(path)}.npz"
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.getvalue())
        part.replace(place)
    except OSError as error:  # a home without room for it; the next run looks again
        rank_zero_info(f"the numbers of events are not kept in {folder}: {error}")
    return found
