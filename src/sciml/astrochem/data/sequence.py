"""Sequences of rows for emulators."""

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sciml.astrochem.data.module import (
    READING,
    SPLITTING,
    STORE,
    ChemistryData,
    Mode,
    Store,
    automatic_batch,
)
from sciml.astrochem.data.source import Reading
from sciml.astrochem.data.splits import Splitting
from sciml.astrochem.data.windows import (
    Sequences,
    Trajectories,
    WindowBatches,
    cut_windows,
    rows_to_windows,
)
from sciml.astrochem.physics.constants import HI, LO
from sciml.core.data import Split
from sciml.core.loading import Batches, EpochSampler, FixedBatches


@dataclass(frozen=True)
class Windows:
    """How sequences are cut and put into batches.

    Args:
        rows_per_batch: Rows of a batch: windows of W rows come by this / W, at least 8 and at most
            256, whatever ``batch_size`` says.
        batches_per_epoch: Batches of every epoch; by default those of one pass over the first
            windows.
        stride: Rows between the starts of two windows.
        allow_short: Train on tracers with fewer rows than a window too, padded.
        first_weight: How often the window from row 0 of a tracer is drawn for every other one: the
            first steps are the fastest chemistry, and a tracer has them only once.
        eval_batch_size: Whole tracers of a batch in validation and test.
        chunk_fraction: Share of the windows that is shuffled together; below 1 for files that are
            larger than memory.

    Raises:
        ValueError: If a number is below 1.
    """

    rows_per_batch: int | None = None
    batches_per_epoch: int | None = None
    stride: int = 1
    allow_short: bool = False
    first_weight: int = 1
    eval_batch_size: int = 32
    chunk_fraction: float = 1.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            counts = type(value) is int  # neither a switch nor a share
            if counts and value < 1:
                raise ValueError(f"data.windows.{name} is {value}; it has to be at least 1")


WINDOWS = Windows()


class SequenceData(ChemistryData):
    """Windows of consecutive rows to train an emulator on, whole trajectories to judge it on.

    The dictionary of a batch is that of `sciml.astrochem.data.windows.Sequences`. Validation, test
    and prediction see every tracer whole and from row 0.

    Args:
        path: File or files to train and validate on, of any known layout.
        test: File or files to test and predict on, with all their groups.
        window_schedule: First epoch and rows of the windows of every stage, such as
            ``[[0, 2], [5, 11]]``; 2 rows are one step. `full`: whole tracers from row 0.
        batch_size: Windows of a batch on every rank; `auto` is, for every length of windows, the
            largest power of two that leaves 30 steps in a pass over them.
        num_workers: Loader processes on every rank.
        seed: First number of the key that orders every epoch.
        lo: Abundance that scales to 0; smaller ones are clipped.
        hi: Abundance that scales to 1; larger ones are clipped.
        mode: `preprocess` the files and leave; `train` on what was preprocessed; or `both`.
        windows: How sequences are cut and put into batches.
        reading: How files are read.
        split: How tracers are divided.
        store: Where preprocessed tracers are kept.

    Raises:
        ValueError: If the schedule does not begin at epoch 0 or has windows below two rows.
    """

    def __init__(
        self,
        path: str | list[str] = "data/astrochem/grav.h5",
        *,
        test: str | list[str] | None = None,
        window_schedule: list[list[int]] | Literal["full"] = [[0, 2]],  # noqa: B006
        batch_size: int | Literal["auto"] = "auto",
        num_workers: int = 0,
        seed: int = 0,
        lo: float = LO,
        hi: float = HI,
        mode: Mode = "both",
        windows: Windows = WINDOWS,
        reading: Reading = READING,
        split: Splitting = SPLITTING,
        store: Store = STORE,
    ) -> None:
        super().__init__(
            path,
            test=test,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            lo=lo,
            hi=hi,
            mode=mode,
            reading=reading,
            split=split,
            store=store,
            chunk_fraction=windows.chunk_fraction,
        )
        self.save_hyperparameters()
        self.windows = windows
        self.window_schedule = window_schedule
        if window_schedule != "full":
            _check_schedule(window_schedule)

    def dataset(self, split: Split) -> Sequences:
        part = self.part(split)
        found = self.artefacts
        ptr = found.ptr(part)
        has_step = ptr[:, 2] > 1
        if not has_step.all():
            self._say(
                f"{int((~has_step).sum())} of {len(ptr)} {part} tracers are left out: they have a "
                "single row, so no step"
            )
        kind = Sequences if split == "train" else Trajectories
        return kind(self.rows(part), found.time(part), ptr[has_step], found.metadata["dt_yr"])

    def batches(self, split: Split, size: int) -> Batches:
        rank, windows = self._rank(), self.windows
        if split != "train":
            sampler = EpochSampler(size, train=False, rank=rank)
            return FixedBatches(sampler, windows.eval_batch_size)
        ptr = self.artefacts.ptr("train")
        longest = int(ptr[:, 2].max())
        schedule = [(0, longest)]
        if self.window_schedule != "full":
            schedule = [(epoch, rows) for epoch, rows in self.window_schedule]
        is_short_allowed = windows.allow_short or self.window_schedule == "full"

        def starts(length: int) -> NDArray[np.int64]:
            skipped = 0 if is_short_allowed else int((ptr[:, 2] < length).sum())
            if skipped:
                self._say(
                    f"{skipped} of {len(ptr)} training tracers have fewer than {length} rows and "
                    "are left out of windows of that length (--data.windows.allow_short)"
                )
            return cut_windows(
                ptr,
                length,
                stride=windows.stride,
                allow_short=is_short_allowed,
                first_weight=windows.first_weight,
            )

        def batch_size(length: int) -> int:
            if windows.rows_per_batch is not None:
                return rows_to_windows(windows.rows_per_batch, length)
            if self.batch_size != self.automatic:
                return self.batch_size
            return automatic_batch(len(starts(length)), rank.count)

        return WindowBatches(
            starts,
            schedule,
            batch_size,
            seed=self.seed,
            rank=rank,
            batches=windows.batches_per_epoch,
            chunk_fraction=windows.chunk_fraction,
            is_fixed=self._overfitting(),
        )


def _check_schedule(schedule: list[list[int]]) -> None:
    pairs = all(len(stage) == 2 for stage in schedule)
    epochs = [stage[0] for stage in schedule]
    increasing = bool(schedule) and epochs[0] == 0 and sorted(set(epochs)) == epochs
    if not pairs or not increasing or min(stage[1] for stage in schedule) < 2:
        raise ValueError(
            f"data.window_schedule is {schedule}; give [epoch, rows] pairs with increasing epochs "
            "from 0 and at least 2 rows"
        )
