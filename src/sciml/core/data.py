"""The base of all data modules with map-style data sets."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import Dataset

from sciml.core.loading import (
    Batches,
    EpochSampler,
    FixedBatches,
    Rank,
    ResumableLoader,
    SizedBatches,
)
from sciml.core.settings import caller, keep_plain

Split = Literal["train", "val", "test", "predict"]


class DataModule(LightningDataModule, ABC):
    """Splits of a data set and their loaders.

    A concrete class gives `dataset`, and where samples differ in size also `sizes`.

    Args:
        batch_size: Samples a batch on every rank.
        num_workers: Loader processes on every rank.
        seed: First number of the key that orders every epoch.
        samples_per_epoch: Length of a training epoch; by default the whole set.
        chunk_fraction: Share of the set that is shuffled together, see `EpochSampler`.
    """

    def __init__(
        self,
        batch_size: int,
        num_workers: int,
        *,
        seed: int = 0,
        samples_per_epoch: int | None = None,
        chunk_fraction: float = 1.0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"data.batch_size is {batch_size}; it has to be at least 1")
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.samples_per_epoch = samples_per_epoch
        self.chunk_fraction = chunk_fraction

    def save_hyperparameters(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("frame", caller())
        super().save_hyperparameters(*args, **kwargs)
        keep_plain(self)

    @abstractmethod
    def dataset(self, split: Split) -> Dataset[Any]:
        """The samples of a split, opened lazily so that it can be sent to a loader process.

        Args:
            split: Which part.

        Raises:
            FileNotFoundError: If a file is missing; names the file and the flag.
        """

    def sizes(self, split: Split) -> Sequence[int] | NDArray[np.int64] | None:
        """Size of every sample for size-aware batches, or None for batches in plain order."""
        return None

    def cost(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """What samples of the given sizes count against `budget`."""
        return sizes

    @property
    def budget(self) -> int | None:
        """Largest cost of a batch, or None when only ``batch_size`` limits it."""
        return None

    @property
    def collate(self) -> Callable[[list[Any]], Any] | None:
        """Picklable function from samples to a batch; None leaves it to torch."""
        return None

    @abstractmethod
    def files(self) -> list[Path]:
        """Data files in use, whose checksums enter the provenance of a run."""

    def train_dataloader(self) -> ResumableLoader:
        return self.loader("train")

    def val_dataloader(self) -> ResumableLoader:
        return self.loader("val")

    def test_dataloader(self) -> ResumableLoader:
        return self.loader("test")

    def predict_dataloader(self) -> ResumableLoader:
        return self.loader("predict")

    def loader(self, split: Split) -> ResumableLoader:
        """The loader of a split for this rank.

        Args:
            split: Which part.

        Raises:
            ValueError: If the split is empty, or makes no batch for some of the processes.
        """
        dataset = self.dataset(split)
        size = len(cast(Sized, dataset))
        if not size:
            raise ValueError(f"the {split} split has no samples; see the data files under --data")
        batches = self.batches(split, size)
        if not batches.fewest:  # a process without batches would leave the others waiting for ever
            raise ValueError(
                f"{batches.sampler.samples} samples of the {split} split make no batch for some of "
                f"{batches.sampler.rank.count} processes; use fewer processes, a smaller "
                "--data.batch_size or more data"
            )
        return ResumableLoader(
            dataset,
            batches,
            collate=self.collate,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
        )

    def batches(self, split: Split, size: int) -> Batches:
        """Which samples make up which batch for this rank.

        Args:
            split: Which part.
            size: Samples of its data set.
        """
        sampler = EpochSampler(
            size,
            train=split == "train" and not self._overfitting(),
            seed=self.seed,
            rank=self._rank(),
            samples_per_epoch=self.samples_per_epoch,
            chunk_fraction=self.chunk_fraction,
        )
        sizes = self.sizes(split)
        if sizes is None:
            return FixedBatches(sampler, self.batch_size)
        return SizedBatches(sampler, self.batch_size, sizes, self.cost, self.budget)

    def _rank(self) -> Rank:
        trainer = self.trainer
        if trainer is None or trainer.world_size == 1:
            return Rank()
        if trainer._accelerator_connector.use_distributed_sampler:
            raise ValueError(
                "the loaders divide the data among the processes by themselves; "
                "set --trainer.use_distributed_sampler false"
            )
        return Rank(trainer.global_rank, trainer.world_size)

    def _overfitting(self) -> bool:
        return self.trainer is not None and bool(self.trainer.overfit_batches)  # type: ignore[attr-defined]
