"""What loading costs and meets: events, invalid readings, seconds of an epoch.

Whoever reads a chunk puts its counters on the first of its events; they travel with the events,
through any number of workers, and are taken off the batch before it is delivered.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciml.core.stream import StreamLoader, StreamOrder
from sciml.xec.data.source import COUNTERS, RootSource
from sciml.xec.data.statistics import read_truths


@dataclass
class Profile:
    """Counters of one epoch on this rank, so far.

    Args:
        epoch: Its number.
        events: Delivered.
        invalid: Photon counts among them that are invalid, 1e10.
        infinite: Readings that were NaN or infinite and became 1e10.
        read: Seconds that all readers spent on it.
        wait: Seconds that training waited for events.
        total: Seconds since the first batch was asked for.
        readers: Processes that read.
        dropped: Events of the files that the cuts leave out.
        began: What the clock of this process showed when the first batch was asked for.
    """

    epoch: int = 0
    events: int = 0
    invalid: int = 0
    infinite: int = 0
    read: float = 0.0
    wait: float = 0.0
    total: float = 0.0
    readers: int = 1
    dropped: int = 0
    began: float = 0.0

    @property
    def compute(self) -> float:
        """Seconds that the events were worked on."""
        return self.total - self.wait

    @property
    def rate(self) -> float:
        """Events in a second."""
        return self.events / self.total if self.total else 0.0

    def add(self, counters: Tensor) -> None:
        """Count a batch.

        Args:
            counters: What came with it, ``(b, 3)``.
        """
        invalid, infinite, seconds = counters.sum(0).tolist()
        self.events += len(counters)
        self.invalid += round(invalid)
        self.infinite += round(infinite)
        self.read += seconds

    def stop(self) -> None:
        """Count the work on the last batch, which ends now."""
        self.total = time.perf_counter() - self.began

    def __str__(self) -> str:
        readers = f" in {self.readers} workers" if self.readers > 1 else ""
        return (
            f"epoch {self.epoch}: {self.events} events, {self.rate:.0f} a second; "
            f"read {self.read:.1f} s{readers}, waited {self.wait:.1f} s, "
            f"computed {self.compute:.1f} s; "
            f"{self.invalid} invalid photon counts, {self.infinite} readings NaN or infinite, "
            f"{self.dropped} events cut"
        )


class EventLoader(StreamLoader):
    """A stream whose batches are counted; `profile` is that of the last epoch that was begun.

    Args:
        source: The files; their rows carry counters.
        order: Shuffling, block size, rank.
        batch_size: Events a batch.
        num_workers: Loader processes.
        pin_memory: Put blocks into page-locked memory.
        dropped: Events of the files that the cuts leave out.
    """

    def __init__(
        self,
        source: RootSource,
        order: StreamOrder,
        batch_size: int,
        *,
        num_workers: int = 0,
        pin_memory: bool = False,
        dropped: int = 0,
    ) -> None:
        super().__init__(source, order, batch_size, num_workers=num_workers, pin_memory=pin_memory)
        self.source = source
        self.profile = Profile(readers=max(num_workers, 1), dropped=dropped)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        fixed = self.profile.readers, self.profile.dropped
        profile = self.profile = Profile(self.epoch, readers=fixed[0], dropped=fixed[1])
        profile.began = asked = time.perf_counter()
        for batch in super().__iter__():
            profile.add(batch.pop(COUNTERS))
            profile.stop()
            profile.wait += profile.began + profile.total - asked
            yield batch
            profile.stop()
            asked = profile.began + profile.total

    def truths(self, names: Sequence[str], *, photons: bool = False) -> Iterator[dict[str, Tensor]]:
        """Some truths of all events of the split, those of other ranks too, in the files' order.

        Args:
            names: Truths that all files have.
            photons: Read ``npho`` too.
        """
        for rows in read_truths(self.source, names, photons=photons):
            yield {name: torch.from_numpy(np.ascontiguousarray(one)) for name, one in rows.items()}

    def close(self) -> None:
        """Close the files that this process has open."""
        self.source.close()
