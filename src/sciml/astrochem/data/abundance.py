"""Single rows for autoencoders (b rows of a batch, S species)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sciml.astrochem.data.module import READING, SPLITTING, STORE, ChemistryData, Mode, Store
from sciml.astrochem.data.rows import Rows
from sciml.astrochem.data.source import Reading
from sciml.astrochem.data.splits import Splitting
from sciml.astrochem.physics.constants import HI, LO
from sciml.core.data import Split


class AbundanceData(ChemistryData):
    """Single rows for an autoencoder.

    A batch has ``abundance`` (scaled, float32 ``(b, S)``) and ``tracer`` (number of the tracer of
    every row, int64 ``(b,)``).

    Args:
        path: File or files to train and validate on, of any known layout.
        test: File or files to test and predict on, with all their groups.
        batch_size: Rows of a batch on every rank; `auto` is the largest power of two that leaves
            30 steps an epoch.
        num_workers: Loader processes on every rank.
        seed: First number of the key that orders every epoch.
        samples_per_epoch: Rows of an epoch; the next one goes on where it stopped.
        chunk_fraction: Share of the rows that is shuffled together; below 1 for files that are
            larger than memory.
        lo: Abundance that scales to 0; smaller ones are clipped.
        hi: Abundance that scales to 1; larger ones are clipped.
        mode: `preprocess` the files and leave; `train` on what was preprocessed; or `both`.
        reading: How files are read.
        split: How tracers are divided.
        store: Where preprocessed tracers are kept.
    """

    def __init__(
        self,
        path: str | list[str] = "data/astrochem/grav.h5",
        *,
        test: str | list[str] | None = None,
        batch_size: int | Literal["auto"] = "auto",
        num_workers: int = 0,
        seed: int = 0,
        samples_per_epoch: int | None = None,
        chunk_fraction: float = 1.0,
        lo: float = LO,
        hi: float = HI,
        mode: Mode = "both",
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
            samples_per_epoch=samples_per_epoch,
            chunk_fraction=chunk_fraction,
        )
        self.save_hyperparameters()

    def dataset(self, split: Split) -> "Abundances":
        part = self.part(split)
        return Abundances(self.rows(part), self.artefacts.ptr(part))


class Abundances(Dataset[dict[str, Tensor]]):
    """Scaled abundances of single rows.

    Args:
        rows: Rows of the part.
        ptr: Number, first row and length of every tracer.
    """

    def __init__(self, rows: Rows, ptr: NDArray[np.int64]) -> None:
        self.rows = rows
        self.ptr = ptr

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        starts = np.asarray(indices, dtype=np.int64)
        tracer = self.ptr[np.searchsorted(self.ptr[:, 1], starts, side="right") - 1, 0]
        abundance = self.rows.take(starts, 1)[1][:, 0]
        return {"abundance": abundance, "tracer": torch.from_numpy(tracer)}
