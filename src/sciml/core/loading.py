"""Loaders whose order depends on seed and epoch alone: exact, rank-even and resumable.

Sizes in the docstrings: n samples, w ranks.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

WINDOW = 50  # batches whose samples are sorted by size together: padding against randomness


@dataclass(frozen=True)
class Rank:
    """One process of a run.

    Args:
        index: Its number, from 0.
        count: Number of processes.
    """

    index: int = 0
    count: int = 1


class EpochSampler(Sampler[int]):
    """Indices of one rank in an order that depends on (seed, epoch) alone.

    Rank r takes entries r, r + w, … of the epoch's order. Training drops what is left over, so
    that all ranks make the same number of steps; evaluation sees every sample exactly once.

    Args:
        size: Samples n in the data set.
        train: Shuffle, and drop the remainder; otherwise keep the order of the data set.
        seed: First number of the key of every permutation.
        rank: The process that draws.
        samples_per_epoch: Length of a training epoch, rounded down to a multiple of the ranks; the
            next epoch goes on where this one stopped, so that every sample is seen equally often.
            By default the whole set.
        chunk_fraction: Below 1, the set is cut into chunks of this share of it, which come in
            random order, shuffled inside: files larger than memory are read place by place.

    Raises:
        ValueError: If the share is not above 0 and at most 1.
    """

    def __init__(
        self,
        size: int,
        *,
        train: bool,
        seed: int = 0,
        rank: Rank = Rank(),
        samples_per_epoch: int | None = None,
        chunk_fraction: float = 1.0,
    ) -> None:
        if not 0 < chunk_fraction <= 1:
            raise ValueError(f"chunk_fraction is {chunk_fraction}; it has to be in (0, 1]")
        self.chunk_fraction = chunk_fraction
        self.size = size
        self.train = train
        self.seed = seed
        self.rank = rank
        self.samples = size
        if train and samples_per_epoch is not None:
            self.samples = samples_per_epoch - samples_per_epoch % rank.count
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration belongs to.

        Args:
            epoch: Number of finished epochs.
        """
        self.epoch = epoch

    def order(self) -> NDArray[np.int64]:
        """The epoch's indices over all ranks, in order."""
        if not self.train:
            return np.arange(self.size)
        start = self.epoch * self.samples
        places = np.arange(start, start + self.samples)
        order = np.empty(self.samples, dtype=np.int64)
        for turn in np.unique(places // self.size):  # one permutation a pass over the data
            of_turn = places // self.size == turn
            order[of_turn] = self._permutation(int(turn))[places[of_turn] % self.size]
        return order

    def _permutation(self, turn: int) -> NDArray[np.int64]:
        chunk = max(1, round(self.chunk_fraction * self.size))
        if chunk == self.size:
            return np.random.default_rng((self.seed, turn)).permutation(self.size)
        starts = np.random.default_rng((self.seed, turn, 1)).permutation(
            np.arange(0, self.size, chunk)
        )
        parts = []
        for start in starts.tolist():  # every chunk has a stream of its own
            rng = np.random.default_rng((self.seed, turn, 2, start))
            parts.append(start + rng.permutation(min(chunk, self.size - start)))
        return np.concatenate(parts)

    def own(self) -> NDArray[np.int64]:
        """The epoch's indices of this rank, in order."""
        return self.order()[self.rank.index :: self.rank.count][: len(self)]

    def __iter__(self) -> Iterator[int]:
        return iter(self.own().tolist())

    def __len__(self) -> int:
        if self.train:
            return self.samples // self.rank.count
        return len(range(self.rank.index, self.samples, self.rank.count))


class Batches(Protocol):
    """Which samples make up which batch; its sampler knows epoch and rank."""

    sampler: EpochSampler

    def __iter__(self) -> Iterator[list[Any]]: ...

    def __len__(self) -> int: ...

    @property
    def fewest(self) -> int:
        """Batches of the rank that has the fewest."""


class FixedBatches(Sampler[list[int]]):
    """Batches of a fixed number of samples, in the order of an `EpochSampler`.

    Args:
        sampler: Order of the samples of this rank.
        batch_size: Samples a batch; the last one of an epoch may be smaller.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int) -> None:
        self.sampler = sampler
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[list[int]]:
        own = self.sampler.own()
        for start in range(0, len(own), self.batch_size):
            yield own[start : start + self.batch_size].tolist()

    def __len__(self) -> int:
        return math.ceil(len(self.sampler) / self.batch_size)

    @property
    def fewest(self) -> int:
        """Batches of the rank that has the fewest."""
        return math.ceil(self.sampler.samples // self.sampler.rank.count / self.batch_size)


class SizedBatches(Sampler[list[int]]):
    """Batches of samples of similar size, so that little of a padded batch is padding.

    In training, windows of 50 batches are sorted by size with jitter, cut into batches, and the
    batches shuffled; rank r takes batches r, r + w, …. A budget closes a batch early. The number
    of batches is that of the first epoch: a later epoch that would make more leaves random ones
    out, one that would make fewer splits its largest batches.

    Args:
        sampler: Order of the samples; its rank is the process that draws.
        batch_size: Largest number of samples in a batch.
        sizes: Size of every sample, such as its number of atoms, shape ``(n,)``.
        cost: What a sample of a given size counts against the budget.
        budget: Largest sum of costs in a batch; a larger single sample is a batch of its own.
    """

    def __init__(
        self,
        sampler: EpochSampler,
        batch_size: int,
        sizes: Sequence[int] | NDArray[np.int64],
        cost: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None = None,
        budget: int | None = None,
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.sizes = np.asarray(sizes, dtype=np.int64)
        if len(self.sizes) != sampler.size:
            raise ValueError(f"{len(self.sizes)} sizes were given for {sampler.size} samples")
        self.costs = self.sizes if cost is None else cost(self.sizes)
        self.budget = budget
        first = EpochSampler(
            sampler.size,
            train=sampler.train,
            seed=sampler.seed,
            samples_per_epoch=sampler.samples if sampler.train else None,
            chunk_fraction=sampler.chunk_fraction,
        )
        batches = len(self._cut(first))
        ranks = sampler.rank
        self.fewest = batches // ranks.count
        if sampler.train:
            self.length = self.fewest
        else:
            self.length = len(range(ranks.index, batches, ranks.count))

    def __iter__(self) -> Iterator[list[int]]:
        ranks = self.sampler.rank
        batches = self._cut(self.sampler)
        if self.sampler.train:
            rng = np.random.default_rng((self.sampler.seed, self.sampler.epoch, 1))
            batches = [batches[place] for place in rng.permutation(len(batches))]
            batches = _resize(batches, self.length * ranks.count)
        return iter(batches[ranks.index :: ranks.count][: self.length])

    def __len__(self) -> int:
        return self.length

    def _cut(self, sampler: EpochSampler) -> list[list[int]]:
        order = sampler.order()
        rng = np.random.default_rng((sampler.seed, sampler.epoch, 2))
        jitter = rng.uniform(-1, 1, len(order)) if sampler.train else np.zeros(len(order))
        window = WINDOW * self.batch_size if sampler.train else max(len(order), 1)
        batches: list[list[int]] = []
        for start in range(0, len(order), window):
            part = order[start : start + window]
            key = self.sizes[part] + jitter[start : start + window]
            batches += self._fill(part[np.argsort(key, kind="stable")])
        return batches

    def _fill(self, members: NDArray[np.int64]) -> list[list[int]]:
        if self.budget is None:
            cuts = range(0, len(members), self.batch_size)
            return [members[cut : cut + self.batch_size].tolist() for cut in cuts]
        batches: list[list[int]] = [[]]
        filled = 0
        for member, cost in zip(members.tolist(), self.costs[members].tolist(), strict=True):
            full = len(batches[-1]) >= self.batch_size or filled + cost > self.budget
            if batches[-1] and full:
                batches.append([])
                filled = 0
            batches[-1].append(member)
            filled += cost
        return [batch for batch in batches if batch]


def _resize(batches: list[list[int]], count: int) -> list[list[int]]:
    batches = batches[:count]
    while len(batches) < count:
        largest = max(range(len(batches)), key=lambda place: len(batches[place]))
        whole = batches[largest]
        if len(whole) < 2:
            break
        batches[largest : largest + 1] = [whole[: len(whole) // 2], whole[len(whole) // 2 :]]
    return batches


class _Remaining(Sampler[list[Any]]):
    """The batches of a batch sampler after the first few."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.skip = 0

    def __iter__(self) -> Iterator[list[Any]]:
        for place, batch in enumerate(self.batches):
            if place >= self.skip:
                yield batch


class Resumable(ABC):
    """A loader that continues in the middle of an epoch.

    It counts what it delivered. After ``load_state_dict`` the next iteration leaves out the batches
    that were delivered before, if it belongs to the same epoch; a checkpoint from the end of an
    epoch starts the next one whole, and any other iteration starts at the first batch.

    Args:
        loader: What reads in the background; Lightning stops its living processes.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        self._epoch = -1
        self._delivered = 0
        self._restored = False

    @abstractmethod
    def __len__(self) -> int:
        """Batches of an epoch."""

    @property
    def _iterator(self) -> Any:  # Lightning stops living loader processes through this
        return self.loader._iterator

    @_iterator.setter
    def _iterator(self, value: Any) -> None:
        self.loader._iterator = value

    def _start(self, epoch: int) -> int:
        """Begin an iteration; returns how many of its batches were delivered before."""
        if not self._restored or self._epoch != epoch:
            self._epoch, self._delivered = epoch, 0
        self._restored = False
        return self._delivered

    def state_dict(self) -> dict[str, int]:
        """Epoch and number of batches delivered in it."""
        return {"epoch": self._epoch, "batches": self._delivered}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue where the state was taken.

        Args:
            state_dict: What `state_dict` returned.
        """
        self._epoch, self._delivered = int(state_dict["epoch"]), int(state_dict["batches"])
        self._restored = True


class ResumableLoader(Resumable):
    """Batches of a map-style data set; those delivered before an interruption are not read again.

    Args:
        dataset: Map-style data set.
        batches: Which samples make up which batch; its ``sampler`` knows the epoch, and Lightning
            sets it there.
        collate: Makes a batch of a list of samples; None leaves it to torch.
        num_workers: Loader processes; they stay alive between epochs.
        pin_memory: Put batches into page-locked memory.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batches: Batches,
        *,
        collate: Callable[[list[Any]], Any] | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.dataset = dataset
        self.batch_sampler = batches
        self._remaining = _Remaining(batches)
        super().__init__(
            DataLoader(
                dataset,
                batch_sampler=self._remaining,
                collate_fn=collate,
                num_workers=num_workers,
                persistent_workers=num_workers > 0,
                pin_memory=pin_memory,
            )
        )

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        # a generator: its first line runs at the first batch, when the epoch has been set
        self._remaining.skip = self._start(self.batch_sampler.sampler.epoch)
        for batch in self.loader:
            self._delivered += 1
            yield batch
