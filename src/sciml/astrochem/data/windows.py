"""Windows of consecutive rows, and the batches they come in.

Sizes: b windows, W rows a window, n tracers, S species.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from sciml.astrochem.data.rows import Rows
from sciml.core.loading import EpochSampler, Rank

Window = tuple[int, int]  # first row, rows
FEWEST, MOST = 8, 256  # windows in a batch that is made of so many rows


def cut_windows(
    ptr: NDArray[np.int64],
    length: int,
    *,
    stride: int = 1,
    allow_short: bool = False,
    first_weight: int = 1,
) -> NDArray[np.int64]:
    """First rows of all windows, none of which leaves its tracer.

    Args:
        ptr: Number, first row and length of every tracer, ``(n, 3)``.
        length: Rows W of a window.
        stride: Rows between the starts of two windows.
        allow_short: Shorter tracers are windows of their own, to be padded.
        first_weight: How often the window from row 0 of a tracer counts.

    Returns:
        In the order of the tracers, the repeated ones last.
    """
    counts = np.maximum(ptr[:, 2] - length + stride, 0) // stride
    if allow_short:
        counts = np.maximum(counts, ptr[:, 2] > 1)
    firsts = np.cumsum(counts) - counts
    within = np.arange(int(counts.sum())) - np.repeat(firsts, counts)
    starts: NDArray[np.int64] = np.repeat(ptr[:, 1], counts) + stride * within
    return np.concatenate([starts, np.repeat(ptr[counts > 0, 1], first_weight - 1)])


class Sequences(Dataset[dict[str, Tensor]]):
    """Windows as batches of tensors, for the trajectories of a network.

    A batch has ``phys`` (conditions of rows 0 to W-2 in physical units, float32 ``(b, W-1, 4)``),
    ``x0`` (scaled abundances of row 0, ``(b, S)``), ``target`` (those of rows 1 to W-1,
    ``(b, W-1, S)``), ``dt`` (years, float32 ``(b, W-1)``), ``tracer`` and ``row`` (number of the
    tracer and first row, int64 ``(b,)``) and ``valid`` (bool ``(b, W-1)``), which is false after
    the end of a tracer, where the last row is repeated.

    Args:
        rows: Rows of the part.
        time: Years of every row.
        ptr: Number, first row and length of every tracer, ``(n, 3)``.
        dt: Usual step in years, for the padding.
    """

    def __init__(
        self, rows: Rows, time: NDArray[np.float64], ptr: NDArray[np.int64], dt: float
    ) -> None:
        self.rows = rows
        self.ptr = ptr
        self.dt = dt
        steps = np.diff(time, append=time[-1:])
        self.steps = torch.from_numpy(steps.astype(np.float32))

    def __len__(self) -> int:
        return len(self.ptr)

    def __getitem__(self, window: Window) -> dict[str, Tensor]:
        return {name: value[0] for name, value in self.__getitems__([window]).items()}

    def __getitems__(self, windows: Sequence[Window]) -> dict[str, Tensor]:
        starts = np.array([start for start, _ in windows], dtype=np.int64)
        return self.cut(starts, max(length for _, length in windows))

    def cut(self, starts: NDArray[np.int64], length: int) -> dict[str, Tensor]:
        """The windows that begin at some rows.

        Args:
            starts: First rows, ``(b,)``.
            length: Rows W.
        """
        tracer = np.searchsorted(self.ptr[:, 1], starts, side="right") - 1
        left = self.ptr[tracer, 1] + self.ptr[tracer, 2] - starts  # rows up to the tracer's end
        phys, scaled = self.rows.take(starts, length)
        steps = torch.arange(length - 1)
        last = torch.from_numpy(left - 1)[:, None]
        valid = steps < last
        places = torch.from_numpy(starts)[:, None] + steps
        dt = self.steps[places.clamp(max=len(self.steps) - 1)]
        if not bool(valid.all()):
            row = torch.minimum(torch.arange(length), last)[..., None]
            phys = phys.gather(1, row.expand_as(phys))
            scaled = scaled.gather(1, row.expand_as(scaled))
            dt = torch.where(valid, dt, torch.tensor(self.dt, dtype=dt.dtype))
        return {
            "phys": phys[:, :-1],
            "x0": scaled[:, 0],
            "target": scaled[:, 1:],
            "dt": dt,
            "tracer": torch.from_numpy(self.ptr[tracer, 0]),
            "row": torch.from_numpy(starts),
            "valid": valid,
        }


class Trajectories(Sequences):
    """Whole tracers by their place, from row 0; those of a batch are padded to the longest.

    Args:
        rows: Rows of the part.
        time: Years of every row.
        ptr: Number, first row and length of every tracer, ``(n, 3)``.
        dt: Usual step in years, for the padding.
    """

    def __getitem__(self, place: int) -> dict[str, Tensor]:  # type: ignore[override]
        return {name: value[0] for name, value in self.__getitems__([place]).items()}

    def __getitems__(self, places: Sequence[int]) -> dict[str, Tensor]:  # type: ignore[override]
        own = self.ptr[list(places)]
        return self.cut(own[:, 1].copy(), int(own[:, 2].max()))


class WindowBatches(Sampler[list[Window]]):
    """Batches of windows whose length follows a schedule over the epochs.

    All epochs have the same number of batches on all ranks. The windows of a length come in passes
    over all of them, each in an order that depends on (seed, pass) alone; an epoch goes on where
    the one before it stopped.

    Args:
        starts: First rows of all windows of a given length.
        schedule: First epoch and length W of every stage, from epoch 0.
        batch_size: Windows in a batch of a given length.
        seed: First number of the key of every order.
        rank: The process that draws.
        batches: Batches of an epoch; by default those of one pass over the windows of the first
            length.
        chunk_fraction: Share of the windows that is shuffled together, see `EpochSampler`.
        is_fixed: Every epoch has the windows of the first one of its stage.

    Raises:
        ValueError: If there are no windows of some length.
    """

    def __init__(
        self,
        starts: Callable[[int], NDArray[np.int64]],
        schedule: Sequence[tuple[int, int]],
        batch_size: Callable[[int], int],
        *,
        seed: int = 0,
        rank: Rank = Rank(),
        batches: int | None = None,
        chunk_fraction: float = 1.0,
        is_fixed: bool = False,
    ) -> None:
        self.is_fixed = is_fixed
        self.schedule = list(schedule)
        self.starts = {length: starts(length) for _, length in schedule}
        for length, own in self.starts.items():
            if len(own) < rank.count:
                raise ValueError(
                    f"there are {len(own)} windows of {length} rows for {rank.count} processes; "
                    "use shorter ones (--data.window_schedule) or --data.windows.allow_short true"
                )
        self.sizes = {
            length: min(batch_size(length), len(own) // rank.count)
            for length, own in self.starts.items()
        }
        self.seed = seed
        self.chunk_fraction = chunk_fraction
        first = schedule[0][1]
        one_pass = -(-(len(self.starts[first]) // rank.count) // self.sizes[first])
        self.fewest = batches or one_pass
        self.sampler = self._stage(first, rank)

    def _stage(self, length: int, rank: Rank) -> EpochSampler:
        return EpochSampler(
            len(self.starts[length]),
            train=True,
            seed=self.seed,
            rank=rank,
            samples_per_epoch=self.fewest * self.sizes[length] * rank.count,
            chunk_fraction=self.chunk_fraction,
        )

    def __iter__(self) -> Iterator[list[Window]]:
        begin, length = max(stage for stage in self.schedule if stage[0] <= self.sampler.epoch)
        stage = self._stage(length, self.sampler.rank)
        stage.set_epoch(0 if self.is_fixed else self.sampler.epoch - begin)
        starts, size = self.starts[length][stage.own()], self.sizes[length]
        for place in range(0, len(starts), size):
            yield [(start, length) for start in starts[place : place + size].tolist()]

    def __len__(self) -> int:
        return self.fewest


def rows_to_windows(rows: int, length: int) -> int:
    """Windows in a batch of about so many rows, at least 8 and at most 256.

    Args:
        rows: Rows of a batch.
        length: Rows of a window.
    """
    return min(max(rows // length, FEWEST), MOST)
