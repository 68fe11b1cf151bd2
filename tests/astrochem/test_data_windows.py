import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tracers import STEP, sample_table

from sciml.astrochem.data.arrays import ArrayFile
from sciml.astrochem.data.rows import FileRows, MemoryRows, Rows
from sciml.astrochem.data.windows import (
    Sequences,
    Trajectories,
    WindowBatches,
    cut_windows,
    rows_to_windows,
)
from sciml.astrochem.physics.scaling import AbundanceScaler
from sciml.core.loading import Rank, ResumableLoader

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=8)
Batches = list[list[tuple[int, int]]]


def ptr_of(lengths: list[int]) -> np.ndarray:
    sizes = np.array(lengths)
    return np.stack([np.arange(len(sizes)), np.cumsum(sizes) - sizes, sizes], axis=1)


@given(LENGTHS, st.integers(2, 8), st.integers(1, 4), st.booleans())
def test_windows_are_those_that_fit_into_a_tracer(
    lengths: list[int], rows: int, stride: int, allow_short: bool
) -> None:
    expected = []
    for _, start, length in ptr_of(lengths).tolist():
        fitting = list(range(start, start + length - rows + 1, stride))
        short = [start] if allow_short and 1 < length < rows else []
        expected += fitting or short
    found = cut_windows(ptr_of(lengths), rows, stride=stride, allow_short=allow_short)
    assert found.tolist() == expected
    assert found.dtype == np.int64


@given(LENGTHS, st.integers(2, 8), st.integers(1, 4))
def test_first_windows_count_as_often_as_asked(lengths: list[int], rows: int, weight: int) -> None:
    ptr = ptr_of(lengths)
    found = cut_windows(ptr, rows, first_weight=weight).tolist()
    once = cut_windows(ptr, rows).tolist()
    firsts = set(ptr[:, 1].tolist())
    assert all(found.count(row) == (weight if row in firsts else 1) for row in once)


@pytest.fixture(params=[MemoryRows, FileRows])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Rows:
    np.save(tmp_path / "a.npy", sample_table().values)
    kept: Rows = request.param(ArrayFile(tmp_path / "a.npy"), AbundanceScaler())
    return kept


def sequences(rows: Rows, kind: type[Sequences] = Sequences) -> Any:
    table = sample_table(numbers=(7, 3, 11))
    return kind(rows, table.time, table.ptr, STEP)


def test_rows_are_scaled_and_repeated_at_the_end(rows: Rows) -> None:
    table = sample_table()
    physics, scaled = rows.take(np.array([14, 0]), 4)
    places = [[14, 15, 15, 15], [0, 1, 2, 3]]
    assert np.array_equal(physics.numpy(), table.physics[places])
    clipped = np.clip(table.abundances[places], 1e-20, 1).astype(float)
    np.testing.assert_allclose(scaled.numpy(), 1 + np.log10(clipped) / 20, atol=2e-7)


def test_window_holds_what_acts_and_what_follows(rows: Rows) -> None:
    table = sample_table()
    scaled = rows.take(np.arange(16), 1)[1][:, 0]
    window = sequences(rows)[(6, 4)]  # rows 1 to 4 of the second tracer
    assert np.array_equal(window["phys"].numpy(), table.physics[6:9])
    assert torch.equal(window["x0"], scaled[6])
    assert torch.equal(window["target"], scaled[7:10])
    assert window["dt"].tolist() == [STEP] * 3
    assert (int(window["tracer"]), int(window["row"])) == (3, 6)
    assert window["valid"].all()


def test_batch_equals_stacked_windows(rows: Rows) -> None:
    data = sequences(rows)
    windows = [(6, 4), (0, 4), (12, 4), (1, 4)]
    batch = data.__getitems__(windows)
    for name, value in batch.items():
        assert torch.equal(value, torch.stack([data[window][name] for window in windows]))
    kinds = {name: value.dtype for name, value in batch.items()}
    assert kinds == {
        "phys": torch.float32,
        "x0": torch.float32,
        "target": torch.float32,
        "dt": torch.float32,
        "tracer": torch.int64,
        "row": torch.int64,
        "valid": torch.bool,
    }


def test_window_beyond_its_tracer_repeats_the_last_row(rows: Rows) -> None:
    window = sequences(rows)[(2, 6)]  # the first tracer has 5 rows
    scaled = rows.take(np.arange(16), 1)[1][:, 0]
    assert window["valid"].tolist() == [True, True, False, False, False]
    assert torch.equal(window["target"], scaled[[3, 4, 4, 4, 4]])
    assert np.array_equal(window["phys"].numpy(), sample_table().physics[[2, 3, 4, 4, 4]])
    assert window["dt"].tolist() == [STEP] * 5


def test_trajectories_are_whole_tracers_padded_to_the_longest(rows: Rows) -> None:
    data = sequences(rows, Trajectories)
    assert len(data) == 3
    batch = data.__getitems__([0, 2])
    assert batch["target"].shape == (2, 4, 8)
    assert batch["valid"].sum(1).tolist() == [4, 3]
    assert batch["row"].tolist() == [0, 12]
    assert batch["tracer"].tolist() == [7, 11]
    alone = data[2]
    assert torch.equal(alone["target"], batch["target"][1, :3])


def test_steps_of_different_lengths_are_told(rows: Rows) -> None:
    table = sample_table()
    time = np.cumsum(np.arange(16.0))  # the step after row i is i + 1 years long
    window = Sequences(rows, time, table.ptr, STEP)[(6, 4)]
    assert window["dt"].tolist() == [7, 8, 9]


def test_rows_of_a_file_can_be_sent_to_a_process(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", sample_table().values)
    rows = FileRows(ArrayFile(tmp_path / "a.npy"), AbundanceScaler())
    first = rows.take(np.array([3]), 2)
    again = pickle.loads(pickle.dumps(rows)).take(np.array([3]), 2)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    rows.close()
    assert torch.equal(rows.take(np.array([3]), 2)[1], first[1])


def test_file_that_becomes_shorter_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, sample_table().values)
    rows = FileRows(ArrayFile(path), AbundanceScaler())
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="became shorter"):
        rows.take(np.array([13]), 2)


# batches


def per_rank(
    lengths: list[int], schedule: list[tuple[int, int]], epoch: int, world: int = 1, **given: Any
) -> list[Batches]:
    found = []
    for index in range(world):
        batches = WindowBatches(
            lambda rows: cut_windows(ptr_of(lengths), rows),
            schedule,
            lambda rows: 4,
            rank=Rank(index, world),
            **given,
        )
        batches.sampler.set_epoch(epoch)
        found.append(list(batches))
        assert len(found[-1]) == len(batches) == batches.fewest
    return found


SCHEDULE = [(0, 2), (2, 3), (5, 5)]


@given(
    st.lists(st.integers(5, 12), min_size=3, max_size=6),
    st.integers(0, 8),
    st.integers(1, 3),
    st.integers(0, 3),
    st.none() | st.integers(1, 20),
)
def test_epochs_have_equally_many_batches_of_the_scheduled_length(
    lengths: list[int], epoch: int, world: int, seed: int, count: int | None
) -> None:
    ranks = per_rank(lengths, SCHEDULE, epoch, world, seed=seed, batches=count)
    assert len({len(batches) for batches in ranks}) == 1
    first = per_rank(lengths, SCHEDULE, 0, world, seed=seed, batches=count)
    assert len(ranks[0]) == len(first[0])
    length = 2 if epoch < 2 else 3 if epoch < 5 else 5
    allowed = set(cut_windows(ptr_of(lengths), length).tolist())
    sizes = set()
    for batch in (batch for batches in ranks for batch in batches):
        assert {rows for _, rows in batch} == {length}
        assert {start for start, _ in batch} <= allowed
        sizes.add(len(batch))
    assert len(sizes) == 1
    assert ranks == per_rank(lengths, SCHEDULE, epoch, world, seed=seed, batches=count)


@given(st.lists(st.integers(3, 12), min_size=3, max_size=6), st.integers(1, 3), st.integers(1, 5))
def test_all_windows_are_seen_equally_often(lengths: list[int], world: int, count: int) -> None:
    counts: Counter[int] = Counter()
    for epoch in range(12):
        ranks = per_rank(lengths, [(0, 3)], epoch, world, batches=count)
        counts.update(start for batches in ranks for batch in batches for start, _ in batch)
    times = [counts[start] for start in cut_windows(ptr_of(lengths), 3).tolist()]
    assert max(times) - min(times) <= 1


def test_one_pass_is_the_usual_epoch() -> None:
    (batches,) = per_rank([9, 9], [(0, 2)], 0)
    assert [len(batch) for batch in batches] == [4] * 4
    assert len({start for batch in batches for start, _ in batch}) == 16


def test_orders_differ_by_epoch_and_seed() -> None:
    orders = {
        str(per_rank([12, 12], [(0, 2)], epoch, seed=seed)) for epoch in (0, 1) for seed in (0, 1)
    }
    assert len(orders) == 4


def test_windows_for_fewer_rows_than_processes_are_refused() -> None:
    with pytest.raises(ValueError, match="there are 0 windows of 5 rows for 1 processes"):
        per_rank([4, 4], [(0, 2), (3, 5)], 0)


@pytest.mark.parametrize(("rows", "windows"), [(2, 256), (6, 170), (16, 64), (41, 24), (500, 8)])
def test_batch_of_so_many_rows_is_limited(rows: int, windows: int) -> None:
    assert rows_to_windows(1024, rows) == windows  # clamp(1024 / W, 8, 256)


@pytest.mark.parametrize("stop", [0, 1, 3])
@pytest.mark.parametrize("epoch", [0, 2])
def test_loader_continues_at_any_batch(stop: int, epoch: int, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", sample_table().values)
    data = sequences(MemoryRows(ArrayFile(tmp_path / "a.npy"), AbundanceScaler()))

    def loader() -> ResumableLoader:
        batches = WindowBatches(
            lambda rows: cut_windows(data.ptr, rows), [(0, 2), (1, 3)], lambda rows: 3
        )
        batches.sampler.set_epoch(epoch)
        return ResumableLoader(data, batches, collate=lambda batch: batch)

    whole = [batch["row"].tolist() for batch in loader()]
    assert len(whole) == 5
    interrupted = loader()
    seen = []
    for batch in interrupted:
        if len(seen) == stop:
            break
        seen.append(batch["row"].tolist())
    again = loader()
    again.load_state_dict({"epoch": epoch, "batches": stop})
    seen += [batch["row"].tolist() for batch in again]
    assert seen == whole
