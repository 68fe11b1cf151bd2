"""One ROOT file: opened, checked, and read a range of entries at a time.

Whatever is wrong with a file becomes one sentence that names it.
"""

import struct
import weakref
import zlib
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciml.core.extras import need
from sciml.xec.data.branches import Arrays, BadFileError, Branch

MAGIC = b"root"
LARGE = 1_000_000  # versions from here on have 64-bit positions in the header
TREES = ("TTree", "TNtuple", "TNtupleD")


class RootFile:
    """A tree of an open file.

    The file is read through an ordinary handle: a memory map would count every page it touched as
    memory of the process, and end the process if the file were cut while it is read.

    Args:
        path: The file.
        tree: Name of its tree.
        executor: Where baskets are decompressed, one of uproot's; by default here.

    Raises:
        FileNotFoundError: If the file is missing.
        BadFileError: If it is no ROOT file, truncated, or has no such tree.
        MissingPackageError: If uproot is not installed.
    """

    def __init__(self, path: Path, tree: str = "tree", executor: object = None) -> None:
        self.path = path
        self._executor = executor
        uproot = need("uproot", extra="xec")
        _check_header(path)
        with _explained(path, "cannot be opened"):
            self._file = uproot.open(
                {str(path): None},  # a colon in a name is no separator
                handler=uproot.MultithreadedFileSource,
                use_threads=False,  # of the file's own; a process that forks keeps none
                num_workers=1,
                array_cache=None,
            )
        # the library's own files complain when they are collected without having been closed
        self._finalizer = weakref.finalize(self, self._file.close)
        with ExitStack() as undo:
            undo.callback(self.close)
            self._tree = self._find(tree)
            with _explained(path, f"has a tree '{tree}' that cannot be read"):
                self._branches: dict[str, Any] = {one.name: one for one in self._tree.branches}
                self.entries = int(self._tree.num_entries)
                self.branches = {name: _look_at(one) for name, one in self._branches.items()}
            undo.pop_all()

    def _find(self, tree: str) -> Any:
        with _explained(self.path, "cannot be opened"):
            classes = self._file.classnames(cycle=False)
        if classes.get(tree) not in TREES:
            found = ", ".join(name for name, kind in classes.items() if kind in TREES) or "none"
            raise BadFileError(f"{self.path} has no tree '{tree}'; its trees are: {found}")
        with _explained(self.path, f"has a tree '{tree}' that cannot be read"):
            return self._file[tree]

    def edges(self, branch: str) -> NDArray[np.int64]:
        """First entry of every basket of a branch, and the number of entries.

        Args:
            branch: Its name.
        """
        with _explained(self.path, f"has a branch '{branch}' that cannot be read"):
            return np.asarray(self._branches[branch].entry_offsets, dtype=np.int64)

    def read(
        self,
        types: Mapping[str, np.dtype[np.generic]],
        start: int,
        stop: int,
        room: Arrays | None = None,
    ) -> Arrays:
        """Some branches of some entries.

        Args:
            types: Native type that each branch is turned into.
            start: First entry.
            stop: Entry after the last one.
            room: Arrays by branch that are filled again; those that are missing or too short are
                replaced. By default the result has memory of its own.

        Returns:
            Arrays ``(stop - start, ...)`` by branch.

        Raises:
            BadFileError: If the file is damaged there.
        """
        found = {}
        with _explained(self.path, f"cannot be read from entry {start} to {stop}"):
            for name, kind in types.items():
                shape = (stop - start, *(self.branches[name].shape or ()))
                values = _room_for(name, shape, kind, {} if room is None else room)
                branch = self._branches[name]
                form = branch.interpretation
                # the baskets' bytes are turned while they are copied: no other array is made
                is_plain = isinstance(form, need("uproot", extra="xec").AsDtype)
                read = branch.array(
                    interpretation=form.inplace(values) if is_plain else form,
                    entry_start=start,
                    entry_stop=stop,
                    library="np",
                    array_cache=None,
                    decompression_executor=self._executor,
                )
                if len(read) != stop - start:
                    raise ValueError(f"branch {name} ends after {len(read)} of them")
                if not is_plain:
                    values[:] = read
                found[name] = values
        return found

    def close(self) -> None:
        """Close the file, which also happens when nobody knows it any more."""
        self._finalizer()


def _check_header(path: Path) -> None:
    """Tell what is no ROOT file and what was cut short, from the first bytes.

    Source: ROOT manual, TFile: the format version decides how wide the end position is.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(20)
    if not head:
        raise BadFileError(f"{path} is empty")
    if len(head) < 20 or not head.startswith(MAGIC):
        raise BadFileError(f"{path} is no ROOT file: it does not begin as one")
    version = struct.unpack_from(">i", head, 4)[0]
    end = int(struct.unpack_from(">q" if version >= LARGE else ">i", head, 12)[0])
    if end > size:
        raise BadFileError(f"{path} is truncated: {size} of {end} bytes are there; copy it again")


def _look_at(branch: Any) -> Branch:
    """Shape and type of a branch; one that is no plain array has neither."""
    unknown = need("uproot", extra="xec").interpretation.identify.UnknownInterpretation
    if isinstance(branch.interpretation, unknown):
        return Branch(None, "O")
    form = np.dtype(branch.interpretation.numpy_dtype)
    if form.base.kind == "O" or form.names is not None:
        return Branch(None, "O")
    return Branch(form.shape, form.base.kind)


def _room_for(
    name: str, shape: tuple[int, ...], kind: np.dtype[np.generic], room: Arrays
) -> NDArray[Any]:
    held = room.get(name)
    fits = held is not None and held.dtype == kind and held.shape[1:] == shape[1:]
    if held is None or not fits or len(held) < shape[0]:
        held = room[name] = np.empty(shape, kind)
    return held[: shape[0]]


@contextmanager
def _explained(path: Path, what: str) -> Generator[None]:
    """Turn what the reader and the decompressors raise on damaged bytes into one sentence."""
    uproot = need("uproot", extra="xec")
    faults = (
        OSError,
        ValueError,
        LookupError,
        ArithmeticError,
        TypeError,
        AssertionError,
        AttributeError,
        NotImplementedError,
        RuntimeError,
        MemoryError,
        struct.error,
        zlib.error,
        uproot.DeserializationError,
        need("cramjam", extra="xec").DecompressionError,
    )
    try:
        yield
    except faults as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise BadFileError(f"{path} {what}; the file is damaged ({reason.rstrip('.')})") from error
