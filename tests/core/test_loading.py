from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset, TensorDataset

from sciml.core.loading import EpochSampler, FixedBatches, Rank, ResumableLoader, SizedBatches

WORLDS = st.integers(1, 5)
Batches = list[list[int]]


def per_rank(count: int, epoch: int, **given: Any) -> list[Batches]:
    """Batches of every rank in an epoch; sized ones when sizes are given."""
    found = []
    for index in range(count):
        settings = dict(given)
        sizes, batch_size = settings.pop("sizes", None), settings.pop("batch_size")
        budget = settings.pop("budget", None)
        sampler = EpochSampler(rank=Rank(index, count), **settings)
        batches: Any = FixedBatches(sampler, batch_size)
        if sizes is not None:
            batches = SizedBatches(sampler, batch_size, sizes, budget=budget)
        sampler.set_epoch(epoch)
        found.append(list(batches))
        assert len(found[-1]) == len(batches)
        assert batches.fewest == len(found[-1]) or index < count - 1
    assert min(len(one) for one in found) == batches.fewest
    return found


def samples(ranks: list[Batches]) -> list[int]:
    return [sample for batches in ranks for batch in batches for sample in batch]


SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=120)


@given(st.integers(1, 200), st.integers(1, 9), WORLDS, st.integers(0, 3))
def test_evaluation_sees_every_sample_once(
    size: int, batch_size: int, world: int, epoch: int
) -> None:
    ranks = per_rank(world, epoch, size=size, train=False, batch_size=batch_size)
    assert sorted(samples(ranks)) == list(range(size))
    if world == 1:
        assert samples(ranks) == list(range(size))


@given(SIZES, st.integers(1, 9), WORLDS, st.none() | st.integers(1, 60))
def test_sized_evaluation_sees_every_sample_once(
    sizes: list[int], batch_size: int, world: int, budget: int | None
) -> None:
    ranks = per_rank(
        world, 0, size=len(sizes), train=False, batch_size=batch_size, sizes=sizes, budget=budget
    )
    assert sorted(samples(ranks)) == list(range(len(sizes)))


@given(st.integers(1, 200), st.integers(1, 9), WORLDS, st.integers(0, 3), st.integers(0, 9))
def test_training_gives_every_rank_as_many_batches_and_drops_the_remainder(
    size: int, batch_size: int, world: int, epoch: int, seed: int
) -> None:
    ranks = per_rank(world, epoch, size=size, train=True, batch_size=batch_size, seed=seed)
    assert len({len(batches) for batches in ranks}) == 1
    assert [len(batch) for batch in ranks[0]] == [len(batch) for batch in ranks[-1]]
    seen = samples(ranks)
    assert len(seen) == len(set(seen)) == size - size % world


@given(SIZES, st.integers(1, 9), WORLDS, st.none() | st.integers(1, 60), st.integers(0, 4))
def test_sized_training_is_even_within_budget_and_constant_in_length(
    sizes: list[int], batch_size: int, world: int, budget: int | None, epoch: int
) -> None:
    ranks, first = (
        per_rank(
            world, e, size=len(sizes), train=True, batch_size=batch_size, sizes=sizes, budget=budget
        )
        for e in (epoch, 0)
    )
    assert {len(batches) for batches in ranks} == {len(first[0])}
    seen = samples(ranks)
    assert len(seen) == len(set(seen))
    assert set(seen) <= set(range(len(sizes)))
    for batch in (batch for batches in ranks for batch in batches):
        assert 0 < len(batch) <= batch_size
        total = sum(sizes[sample] for sample in batch)
        assert budget is None or total <= budget or len(batch) == 1


@given(SIZES, st.integers(1, 9), st.integers(0, 4))
def test_sized_training_without_budget_sees_all(
    sizes: list[int], batch_size: int, epoch: int
) -> None:
    ranks = per_rank(1, epoch, size=len(sizes), train=True, batch_size=batch_size, sizes=sizes)
    assert sorted(samples(ranks)) == list(range(len(sizes)))


@given(st.integers(1, 40), st.integers(1, 100), WORLDS)
def test_short_epochs_see_all_samples_equally_often(size: int, length: int, world: int) -> None:
    length = max(length, world)
    counts: Counter[int] = Counter()
    taken = 0
    for epoch in range(12):
        seen = samples(
            per_rank(world, epoch, size=size, train=True, batch_size=3, samples_per_epoch=length)
        )
        counts.update(seen)
        taken += len(seen)
        assert len(seen) == length - length % world
        times = [counts[sample] for sample in range(size)]
        assert max(times) - min(times) <= 1  # a pass is over before the next one begins
        assert sum(times) == taken


def make_budgeted(seed: int) -> SizedBatches:
    """The same samples, in the order of a seed."""
    sizes = np.random.default_rng(3).integers(1, 30, 200)
    return SizedBatches(EpochSampler(200, train=True, seed=seed), 8, sizes, budget=60)


def test_surplus_that_is_left_out_is_random_not_the_largest_samples() -> None:
    batches = min(map(make_budgeted, range(30)), key=len)  # later epochs have a surplus
    sizes = batches.sizes
    left_out: list[int] = []
    for epoch in range(1, 60):
        batches.sampler.set_epoch(epoch)
        left_out += sorted(set(range(200)) - {s for batch in batches for s in batch})
    assert len(left_out) > 50
    assert sizes[left_out].mean() == pytest.approx(sizes.mean(), rel=0.25)


def test_epochs_that_would_be_short_split_batches_and_see_all_samples() -> None:
    batches = max(map(make_budgeted, range(30)), key=len)  # later epochs would make fewer
    for epoch in range(1, 20):
        batches.sampler.set_epoch(epoch)
        found = list(batches)
        assert len(found) == len(batches)
        assert all(found)
        assert sorted(sample for batch in found for sample in batch) == list(range(200))


def test_orders_differ_by_epoch_and_seed_and_agree_otherwise() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(100, train=True, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6


FRACTIONS = st.floats(0.001, 1.0)


@given(st.integers(1, 200), WORLDS, FRACTIONS, st.integers(0, 3), st.integers(0, 9))
def test_chunks_are_a_permutation_dealt_out_without_overlap(
    size: int, world: int, fraction: float, epoch: int, seed: int
) -> None:
    given: dict[str, Any] = {"size": size, "seed": seed, "chunk_fraction": fraction}
    ranks = per_rank(world, epoch, train=True, batch_size=4, **given)
    seen = samples(ranks)
    assert len(seen) == len(set(seen)) == size - size % world
    assert samples(per_rank(world, epoch, train=True, batch_size=4, **given)) == seen
    whole = EpochSampler(train=True, **given)
    assert sorted(whole) == list(range(size))


@given(st.integers(1, 40), st.integers(1, 100), FRACTIONS)
def test_short_epochs_of_chunks_see_all_samples_equally_often(
    size: int, length: int, fraction: float
) -> None:
    sampler = EpochSampler(size, train=True, samples_per_epoch=length, chunk_fraction=fraction)
    counts: Counter[int] = Counter()
    for epoch in range(6):
        sampler.set_epoch(epoch)
        counts.update(sampler)
    times = [counts[sample] for sample in range(size)]
    assert max(times) - min(times) <= 1


def test_samples_of_a_chunk_come_together_and_mixed() -> None:
    sampler = EpochSampler(100, train=True, chunk_fraction=0.1)
    orders = set()
    for epoch in range(3):
        sampler.set_epoch(epoch)
        order = np.array(list(sampler)).reshape(10, 10)
        orders.add(tuple(order.ravel().tolist()))
        chunks = order // 10
        assert (chunks == chunks[:, :1]).all()
        assert (chunks[:, 0] != np.arange(10)).any()
        assert len({tuple(part) for part in (order % 10).tolist()}) == 10
    assert len(orders) == 3


def test_one_chunk_is_the_plain_shuffle() -> None:
    plain = EpochSampler(100, train=True, seed=4)
    assert list(EpochSampler(100, train=True, seed=4, chunk_fraction=1.0)) == list(plain)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5])
def test_impossible_share_of_a_chunk_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="chunk_fraction is"):
        EpochSampler(10, train=True, chunk_fraction=fraction)


def test_little_of_a_padded_batch_is_padding() -> None:
    # as many molecules of 8 to 21 atoms as a bell around 15, batches of 8
    sizes = np.clip(np.random.default_rng(0).normal(15, 3, 4000).round(), 8, 21).astype(int)

    def padding(batches: Any) -> float:
        full = sum(len(batch) * sizes[batch].max() for batch in batches)
        return 1 - sum(sizes[batch].sum() for batch in batches) / float(full)

    sampler = EpochSampler(len(sizes), train=True)
    assert padding(SizedBatches(sampler, 8, sizes)) <= 0.15
    assert padding(FixedBatches(sampler, 8)) > 0.15


def test_batches_of_one_epoch_differ_in_size_without_order() -> None:
    sizes = np.arange(800) // 10
    batches = list(SizedBatches(EpochSampler(800, train=True), 8, sizes))
    means = np.array([sizes[batch].mean() for batch in batches])
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_sizes_of_another_data_set_are_refused() -> None:
    with pytest.raises(ValueError, match="3 sizes were given for 4 samples"):
        SizedBatches(EpochSampler(4, train=True), 2, [1, 2, 3])


# the loader


class Noted(Dataset[int]):
    """Whole numbers; notes in a file which of them are read, by any process."""

    def __init__(self, size: int, log: Path) -> None:
        self.size = size
        self.log = log

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        with self.log.open("a") as file:
            file.write(f"{index}\n")
        return index


def make_loader(
    dataset: Dataset[Any], size: int, workers: int = 0, epoch: int = 0
) -> ResumableLoader:
    sampler = EpochSampler(size, train=True)
    sampler.set_epoch(epoch)
    return ResumableLoader(dataset, FixedBatches(sampler, 3), num_workers=workers)


def numbers(size: int) -> TensorDataset:
    return TensorDataset(torch.arange(size))


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_batches_are_the_same_for_any_number_of_workers(workers: int) -> None:
    alone, helped = make_loader(numbers(20), 20), make_loader(numbers(20), 20, workers)
    for epoch in range(2):
        for loader in (alone, helped):
            loader.batch_sampler.sampler.set_epoch(epoch)
        for one, other in zip(alone, helped, strict=True):
            assert torch.equal(one[0], other[0])


@settings(max_examples=20)
@given(st.integers(0, 7), st.integers(0, 7))
def test_continues_at_any_batch_and_again(first: int, second: int) -> None:
    whole = [batch[0].tolist() for batch in make_loader(numbers(20), 20, epoch=3)]
    loader, seen = make_loader(numbers(20), 20, epoch=3), []
    for stop in (first, second, None):
        seen += [batch[0].tolist() for batch in islice(loader, stop)]
        state = loader.state_dict()
        loader = make_loader(numbers(20), 20, epoch=3)
        loader.load_state_dict(state)
        assert loader.state_dict() == state
    assert seen == whole


def test_state_counts_what_was_delivered() -> None:
    loader = make_loader(numbers(20), 20, epoch=2)
    assert loader.state_dict()["batches"] == 0
    for count, _ in enumerate(loader, start=1):
        assert loader.state_dict() == {"epoch": 2, "batches": count}


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_of_delivered_batches_are_not_read_again(workers: int, tmp_path: Path) -> None:
    log = tmp_path / "log"
    loader = make_loader(Noted(20, log), 20, workers)
    loader.load_state_dict({"epoch": 0, "batches": 4})
    rest = [int(number) for batch in loader for number in batch]
    assert sorted(map(int, log.read_text().split())) == sorted(rest)
    assert len(rest) == 20 - 4 * 3


def test_place_of_another_epoch_does_not_count() -> None:
    loader = make_loader(numbers(20), 20, epoch=4)
    loader.load_state_dict({"epoch": 3, "batches": 2})
    assert len(list(loader)) == 7


def test_iteration_given_up_in_the_middle_starts_anew() -> None:
    # a sanity check looks at two batches; the validation after it belongs to the same epoch
    loader = make_loader(numbers(20), 20)
    first = next(iter(loader))[0].tolist()
    assert next(iter(loader))[0].tolist() == first
    assert len(list(loader)) == len(loader) == 7
