from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from toy import ToySource

from sciml.core.loading import Rank
from sciml.core.stream import ChunkSource, StreamLoader, StreamOrder


class Counting(ChunkSource):
    """Rows numbered through; counts how often a chunk is decoded in this process."""

    def __init__(self, chunk_rows: list[int]) -> None:
        self.chunk_rows = chunk_rows
        self.starts = np.cumsum([0, *chunk_rows])
        self.reads: Counter[int] = Counter()

    def read(self, chunk: int) -> dict[str, NDArray[np.generic]]:
        self.reads[chunk] += 1
        row = np.arange(self.starts[chunk], self.starts[chunk + 1])
        return {"row": row, "pair": np.stack([row, -row], axis=1)}


def rows(loader: StreamLoader) -> list[list[int]]:
    return [batch["row"].tolist() for batch in loader]


def flat(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]


CHUNKS = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(sum)


@given(CHUNKS, st.integers(1, 7), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3))
def test_evaluation_sees_every_row_once_in_order(
    chunks: list[int], batch_size: int, block: int, world: int, epoch: int
) -> None:
    seen: list[int] = []
    for index in range(world):
        order = StreamOrder(train=False, chunks_per_block=block, rank=Rank(index, world))
        loader = StreamLoader(Counting(chunks), order, batch_size)
        loader.set_epoch(epoch)
        batches = rows(loader)
        assert len(batches) == len(loader)
        seen += flat(batches)
    assert seen == list(range(sum(chunks)))


@given(CHUNKS, st.integers(1, 7), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3))
def test_training_ranks_are_disjoint_and_even(
    chunks: list[int], batch_size: int, block: int, world: int, epoch: int
) -> None:
    found = []
    for index in range(world):
        order = StreamOrder(chunks_per_block=block, rank=Rank(index, world))
        loader = StreamLoader(Counting(chunks), order, batch_size)
        loader.set_epoch(epoch)
        found.append(rows(loader))
        assert [len(batch) for batch in found[-1]] == [len(batch) for batch in found[0]]
        assert len(found[-1]) == len(loader)
    seen = [row for batches in found for row in flat(batches)]
    assert len(seen) == len(set(seen)) == sum(chunks) - sum(chunks) % world


@settings(max_examples=30)
@given(CHUNKS, st.integers(1, 7), st.integers(1, 4), st.booleans())
def test_continues_at_every_batch_without_decoding_earlier_blocks(
    chunks: list[int], batch_size: int, block: int, train: bool
) -> None:
    order = StreamOrder(train=train, chunks_per_block=block)
    whole = rows(StreamLoader(Counting(chunks), order, batch_size))
    for delivered in range(len(whole) + 1):
        source = Counting(chunks)
        loader = StreamLoader(source, order, batch_size)
        loader.load_state_dict({"epoch": 0, "batches": delivered})
        assert rows(loader) == whole[delivered:]
        assert set(source.reads.values()) <= {1}
        # rows of the decoded blocks: those left, and less than one block more
        decoded = sum(chunks[chunk] for chunk in source.reads)
        left = len(flat(whole[delivered:]))
        assert not left or decoded - left < max(block_rows(chunks, order))


def block_rows(chunks: list[int], order: StreamOrder) -> list[int]:
    blocks = StreamLoader(Counting(chunks), order, 1).blocks.chunks(0)
    return [sum(chunks[chunk] for chunk in block) for block in blocks]


def test_epochs_are_mixed_across_and_within_chunks() -> None:
    loader = StreamLoader(Counting([10] * 20), StreamOrder(chunks_per_block=4), 16)
    first = flat(rows(loader))
    loader.set_epoch(1)
    second = flat(rows(loader))
    assert sorted(first) == sorted(second) == list(range(200))
    assert first != second
    neighbours = np.abs(np.diff(first)) == 1
    assert neighbours.mean() < 0.1


def test_all_arrays_of_a_row_stay_together_and_keep_their_type() -> None:
    for batch in StreamLoader(Counting([3, 5, 4]), StreamOrder(chunks_per_block=2), 5):
        assert torch.equal(batch["pair"], torch.stack([batch["row"], -batch["row"]], dim=1))
        assert batch["row"].dtype == torch.int64


def test_resume_of_a_resume_and_a_new_start() -> None:
    def make() -> StreamLoader:
        return StreamLoader(Counting([3, 5, 4, 7]), StreamOrder(chunks_per_block=2), 2)

    whole, loader, seen = rows(make()), make(), []
    for count in (1, 3, 0, None):
        seen += [batch["row"].tolist() for batch in islice(loader, count)]
        state = loader.state_dict()
        loader = make()
        loader.load_state_dict(state)
    assert seen == whole
    assert rows(make()) == rows(make()) == whole
    given_up = make()
    next(iter(given_up))
    assert rows(given_up) == whole  # as after a sanity check


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_same_batches_and_one_decoding_for_any_number_of_workers(
    workers: int, tmp_path: Path
) -> None:
    order = StreamOrder(chunks_per_block=3)
    log = tmp_path / "log"
    alone = StreamLoader(ToySource(40), order, 4)
    helped = StreamLoader(ToySource(40, log), order, 4, num_workers=workers)
    for epoch in range(2):
        for loader in (alone, helped):
            loader.set_epoch(epoch)
        for one, other in zip(alone, helped, strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in one)
    reads = Counter(map(int, log.read_text().split()))
    assert set(reads.values()) == {2}  # once an epoch
    assert len(reads) == len(ToySource(40).chunk_rows)


class Lending(Counting):
    """The same rows, decoded into one piece of memory."""

    def __init__(self, chunk_rows: list[int]) -> None:
        super().__init__(chunk_rows)
        self.room = {"row": np.empty(99, np.int64), "pair": np.empty((99, 2), np.int64)}

    def borrow(self, chunk: int) -> dict[str, NDArray[np.generic]]:
        rows = self.read(chunk)
        for name, values in rows.items():
            self.room[name][: len(values)] = values
        return {name: self.room[name][: len(values)] for name, values in rows.items()}


@given(CHUNKS, st.integers(1, 7), st.integers(1, 4), st.booleans())
def test_lent_memory_gives_the_same_batches_which_stay_as_they_are(
    chunks: list[int], batch_size: int, block: int, train: bool
) -> None:
    order = StreamOrder(train=train, chunks_per_block=block)
    loader = StreamLoader(Lending(chunks), order, batch_size)
    for epoch in range(2):
        plain = StreamLoader(Counting(chunks), order, batch_size)
        for one in (loader, plain):
            one.set_epoch(epoch)
        kept = list(loader)  # all of them, while later blocks are made
        for batch, other in zip(kept, plain, strict=True):
            assert all(torch.equal(batch[name], other[name]) for name in other)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_a_worker_gives_blocks_without_rows() -> None:
    order = StreamOrder(train=False, chunks_per_block=2)
    loader = StreamLoader(Counting([2, 3, 0, 0, 4]), order, 2, num_workers=1)
    assert flat(rows(loader)) == list(range(9))
