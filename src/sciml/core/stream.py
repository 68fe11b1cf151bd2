"""Loading from files larger than memory: whole blocks in the workers, batches in the main process.

Sizes in the docstrings: rows are samples; a chunk is what the file decodes at once, a block is
several chunks of the epoch's order, shuffled together.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from sciml.core.loading import Rank, Resumable

Rows = Mapping[str, NDArray[np.generic]]


class ChunkSource(ABC):
    """Files that are read a chunk at a time; ``chunk_rows`` comes from their headers."""

    chunk_rows: Sequence[int]

    @abstractmethod
    def read(self, chunk: int) -> Rows:
        """All rows of one chunk.

        Args:
            chunk: Its number.

        Returns:
            Arrays by name, each with ``chunk_rows[chunk]`` rows.
        """

    def borrow(self, chunk: int) -> Rows:
        """The rows of `read`, perhaps in memory that the next call fills again.

        Args:
            chunk: Its number.
        """
        return self.read(chunk)


@dataclass(frozen=True)
class StreamOrder:
    """Order of a stream.

    Args:
        train: Shuffle chunks and rows, and drop the remainder so that ranks are even.
        seed: First number of the key of every permutation.
        chunks_per_block: Chunks shuffled together: mixing against memory.
        rank: The process that draws; ranks take disjoint ranges of the global order.
    """

    train: bool = True
    seed: int = 0
    chunks_per_block: int = 8
    rank: Rank = Rank()


class _Blocks(Dataset[dict[str, Tensor]]):
    """Blocks of one epoch by number; the epoch is shared with living worker processes."""

    def __init__(self, source: ChunkSource, order: StreamOrder) -> None:
        self.source = source
        self.order = order
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def chunks(self, epoch: int) -> list[NDArray[np.int64]]:
        """Chunk numbers of every block of an epoch."""
        count = len(self.source.chunk_rows)
        order = np.arange(count)
        if self.order.train:
            order = np.random.default_rng((self.order.seed, epoch)).permutation(count)
        step = self.order.chunks_per_block
        return [order[start : start + step] for start in range(0, count, step)]

    def __getitem__(self, block: int) -> dict[str, Tensor]:
        epoch = int(self.epoch)
        chunks = self.chunks(epoch)[block].tolist()
        size = sum(self.source.chunk_rows[chunk] for chunk in chunks)
        places = np.arange(size)
        if self.order.train:  # row i of the shuffled block is row shuffle[i] of its chunks
            shuffle = np.random.default_rng((self.order.seed, epoch, block)).permutation(size)
            places[shuffle] = np.arange(size)
        rows: dict[str, Tensor] = {}
        start = 0
        for chunk in chunks:  # each goes straight to its places: a block is held only once
            stop = start + self.source.chunk_rows[chunk]
            own = places[start:stop] if self.order.train else slice(start, stop)
            for name, values in self.source.borrow(chunk).items():
                if name not in rows:
                    rows[name] = _memory(size, values)
                rows[name].numpy()[own] = values
            start = stop
        return rows


def _memory(rows: int, like: NDArray[np.generic]) -> Tensor:
    """An empty tensor; in a worker in memory that the main process sees too.

    Torch would otherwise copy every block once more, from the worker's own memory.
    """
    shape = (rows, *like.shape[1:])
    kind = torch.from_numpy(np.empty(0, like.dtype)).dtype
    if get_worker_info() is None:
        return torch.empty(shape, dtype=kind)
    size = math.prod(shape)
    shared: Any = torch.UntypedStorage._new_shared(max(size, 1) * like.itemsize)
    return torch.empty(0, dtype=kind).set_(shared)[:size].view(shape)


class _Span(torch.utils.data.Sampler[int]):
    """Consecutive block numbers."""

    def __init__(self) -> None:
        self.first = 0
        self.last = 0

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.last))


class StreamLoader(Resumable):
    """Batches of a stream: the same ones in the same order for any number of workers.

    Every worker reads whole blocks, so no chunk is decoded twice; the main process slices batches
    across block borders. Resuming jumps to the block by row counts without decoding.

    Args:
        source: The files.
        order: Shuffling, block size, rank.
        batch_size: Rows a batch; in evaluation the last one may be smaller.
        num_workers: Loader processes; they stay alive between epochs.
        pin_memory: Put blocks into page-locked memory.
    """

    def __init__(
        self,
        source: ChunkSource,
        order: StreamOrder,
        batch_size: int,
        *,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.blocks = _Blocks(source, order)
        self.order = order
        self.batch_size = batch_size
        self.epoch = 0
        self.batch_sampler = None  # Lightning asks for it
        self._span = _Span()
        super().__init__(
            DataLoader(
                self.blocks,
                batch_size=None,
                sampler=self._span,
                num_workers=num_workers,
                persistent_workers=num_workers > 0,
                pin_memory=pin_memory,
            )
        )

    @property
    def sampler(self) -> "StreamLoader":
        """Where Lightning sets the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration belongs to.

        Args:
            epoch: Number of finished epochs.
        """
        self.epoch = epoch

    def _range(self) -> tuple[int, int]:
        """First and last row of this rank in the global order."""
        total, rank = sum(self.blocks.source.chunk_rows), self.order.rank
        if self.order.train:
            share = total // rank.count
            return rank.index * share, (rank.index + 1) * share
        return rank.index * total // rank.count, (rank.index + 1) * total // rank.count

    def __len__(self) -> int:
        first, last = self._range()
        return -(-(last - first) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        # a generator: its first line runs at the first batch, when the epoch has been set
        self.blocks.epoch.fill_(self.epoch)
        first, last = self._range()
        start = min(first + self._start(self.epoch) * self.batch_size, last)
        rows = np.asarray(self.blocks.source.chunk_rows)
        sizes = [int(rows[chunks].sum()) for chunks in self.blocks.chunks(self.epoch)]
        borders = np.cumsum([0, *sizes])
        self._span.first = int(np.searchsorted(borders, start, side="right")) - 1
        self._span.last = int(np.searchsorted(borders, last, side="left"))
        for batch in self._slice(start - int(borders[self._span.first]), last - start):
            self._delivered += 1
            yield batch

    def _slice(self, skip: int, remaining: int) -> Iterator[dict[str, Tensor]]:
        held: list[dict[str, Tensor]] = []
        ready = 0
        for block in self.loader:
            part = {name: values[skip : skip + remaining] for name, values in block.items()}
            skip = 0
            remaining -= _rows(part)
            ready += _rows(part)
            held.append(part)
            while ready >= self.batch_size:
                batch, held = _take(held, self.batch_size)
                ready -= self.batch_size
                yield batch
        if ready:
            yield _take(held, ready)[0]


def _rows(block: dict[str, Tensor]) -> int:
    return len(next(iter(block.values())))


def _take(
    held: list[dict[str, Tensor]], count: int
) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """The first rows of a list of blocks, and what is left."""
    taken: list[dict[str, Tensor]] = []
    while count:
        block, size = held[0], _rows(held[0])
        if size <= count:
            taken.append(block)
            held = held[1:]
            count -= size
        else:
            taken.append({name: values[:count] for name, values in block.items()})
            held = [{name: values[count:] for name, values in block.items()}, *held[1:]]
            count = 0
    if len(taken) == 1:
        return taken[0], held
    return {name: torch.cat([t[name] for t in taken]) for name in taken[0]}, held
