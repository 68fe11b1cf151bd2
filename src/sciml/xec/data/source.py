"""Events of ROOT files, a chunk of consecutive entries at a time."""

import copy
import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciml.core.extras import need
from sciml.core.stream import ChunkSource
from sciml.xec.data.branches import (
    SENSOR_READINGS,
    Arrays,
    Units,
    branches_of,
    invalidate,
    quantities,
)
from sciml.xec.data.index import UNITS, FileIndex
from sciml.xec.data.root import RootFile
from sciml.xec.physics.constants import INVALID_FROM

ALWAYS = ("npho", "relative_time", "time_min", "run", "event")
OPEN = 32  # files that a process keeps open
COUNTERS = "_counters"
"""Key of what a chunk counted, float64 ``(b, 3)`` on the first of its events, else 0: invalid
photon counts, readings that were NaN or infinite, seconds of reading."""
OVERSIZE = 8  # a basket of up to so many chunks is read whole, a larger one in several pieces


@dataclass(frozen=True)
class _Chunk:
    """Consecutive entries of a file, of which the first ``rows`` that pass the cuts are used."""

    file: int
    start: int
    stop: int
    rows: int


class RootSource(ChunkSource):
    """The events of indexed files; a chunk gives float32 arrays, whole numbers as int64.

    ``npho`` in photons and ``relative_time`` in s, ``(b, 4760)``, with 1e10 for what is invalid,
    NaN or infinite; ``time_min`` in s ``(b,)``, NaN when it is not known; ``run`` and ``event``
    ``(b,)``, -1 when they are not known; ``number`` ``(b,)``, the row of the event in the order of
    the files, whether or not others were cut; and the truths that were asked for.

    Args:
        files: Indexes of the files; all have the named quantities.
        names: Truths and conventional results to read.
        chunksize: Entries a chunk; it ends between baskets, so that none is decoded twice.
        units: Factors.
        threads: Threads that decompress in each process.
        tree: Name of the files' tree.
    """

    def __init__(
        self,
        files: Sequence[FileIndex],
        names: Sequence[str] = (),
        chunksize: int = 512,
        *,
        units: Units = UNITS,
        threads: int = 1,
        tree: str = "tree",
    ) -> None:
        self.files = list(files)
        self.names = (*ALWAYS, *names)
        self.units = units
        self.threads = threads
        self.tree = tree
        self.first_numbers = np.cumsum([0, *(file.entries for file in self.files)])
        self._chunks = [
            chunk
            for number, file in enumerate(self.files)
            for chunk in _chunks(number, file, chunksize)
        ]
        self.chunk_rows = [chunk.rows for chunk in self._chunks]
        self._handles: OrderedDict[int, RootFile] = OrderedDict()
        self._room: Arrays = {}
        self._executor: object = None
        self._process = os.getpid()

    def without_last(self, rows: int) -> "RootSource":
        """The same events but the last ones.

        Args:
            rows: How many to leave out.
        """
        shorter = copy.copy(self)
        left = np.minimum(np.cumsum(self.chunk_rows), sum(self.chunk_rows) - rows)
        counts = np.diff(left, prepend=0).tolist()
        shorter._chunks = [
            _Chunk(chunk.file, chunk.start, chunk.stop, count)
            for chunk, count in zip(self._chunks, counts, strict=True)
            if count
        ]
        shorter.chunk_rows = [chunk.rows for chunk in shorter._chunks]
        return shorter

    def read(self, chunk: int) -> Arrays:
        return self._decode(chunk, {})

    def borrow(self, chunk: int) -> Arrays:
        """The rows of `read` in memory that the next call fills again.

        Args:
            chunk: Its number.
        """
        return self._decode(chunk, self._room)

    def _decode(self, chunk: int, room: Arrays) -> Arrays:
        began = time.perf_counter()
        part = self._chunks[chunk]
        file = self.files[part.file]
        file.check_unchanged()
        entries = np.arange(part.start, part.stop)
        types = branches_of(file.layout, self.names)
        raw = self._open(part.file).read(types, part.start, part.stop, room)
        if file.kept is not None:
            entries = entries[file.kept[part.start : part.stop]]
        if len(entries) != part.stop - part.start or part.rows < len(entries):
            entries = entries[: part.rows]
            raw = {name: values[entries - part.start] for name, values in raw.items()}
        infinite = sum(invalidate(raw[file.layout[name]]) for name in SENSOR_READINGS)
        rows = quantities(raw, file.layout, self.names, self.units)
        rows = {name: rows[name] if name in rows else _unknown(name, part) for name in self.names}
        rows["number"] = self.first_numbers[part.file] + entries
        counters = rows[COUNTERS] = np.zeros((part.rows, 3))
        invalid = np.count_nonzero(rows["npho"] > INVALID_FROM)
        counters[0] = invalid, infinite, time.perf_counter() - began
        return rows

    def locate(self, number: int) -> tuple[FileIndex, int]:
        """File and entry of an event.

        Args:
            number: Its row in the order of the files.
        """
        file = int(np.searchsorted(self.first_numbers, number, side="right")) - 1
        return self.files[file], number - int(self.first_numbers[file])

    def close(self) -> None:
        """Close the files that this process has open."""
        if self._process == os.getpid():
            for handle in self._handles.values():
                handle.close()
        self._handles = OrderedDict()

    def _open(self, file: int) -> RootFile:
        """The file, kept open; a process that was forked opens its own, positions are shared."""
        if self._process != os.getpid():
            self._process, self._handles, self._executor = os.getpid(), OrderedDict(), None
        if self.threads > 1 and self._executor is None:
            self._executor = need("uproot", extra="xec").ThreadPoolExecutor(self.threads)
        if file not in self._handles:
            if len(self._handles) >= OPEN:
                self._handles.popitem(last=False)[1].close()
            self._handles[file] = RootFile(self.files[file].path, self.tree, self._executor)
        self._handles.move_to_end(file)
        return self._handles[file]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_handles": OrderedDict(), "_room": {}, "_executor": None}


def _chunks(number: int, file: FileIndex, chunksize: int) -> Iterator[_Chunk]:
    for start, stop in cut_entries(file.edges, chunksize):
        rows = stop - start
        if file.kept is not None:
            places = np.flatnonzero(file.kept[start:stop])
            rows = len(places)
            if rows:
                start, stop = start + int(places[0]), start + int(places[-1]) + 1
        if rows:
            yield _Chunk(number, start, stop, rows)


def cut_entries(edges: NDArray[np.int64], chunksize: int) -> Iterator[tuple[int, int]]:
    """First entry and end of every chunk: as many whole baskets as fit.

    A basket that is larger than a chunk is one; a very large one is cut evenly all the same, and
    decoded again for each piece.

    Args:
        edges: First entry of every basket, and the number of entries.
        chunksize: Entries a chunk.
    """
    start, end = 0, int(edges[-1])
    while start < end:
        place = int(np.searchsorted(edges, start + chunksize, side="right")) - 1
        stop = int(edges[place])
        if stop <= start:
            stop = int(edges[place + 1])
        pieces = -(-(stop - start) // (OVERSIZE * chunksize))
        borders = np.linspace(start, stop, pieces + 1).astype(int).tolist()
        yield from pairwise(borders)
        start = stop


def _unknown(name: str, part: _Chunk) -> NDArray[np.generic]:
    if name in {"run", "event"}:
        return np.full(part.rows, -1, dtype=np.int64)
    return np.full(part.rows, np.nan, dtype=np.float32)
