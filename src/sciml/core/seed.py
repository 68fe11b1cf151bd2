"""Random state that depends on the step alone, so that a resumed run draws the same numbers."""

import os
import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


def global_seed() -> int:
    """The seed given to ``seed_everything``, 0 when none was set."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


def seed_all(*key: int) -> None:
    """Seed the generators of Python, NumPy and torch from a tuple of whole numbers.

    Args:
        key: Entropy of a NumPy seed sequence, such as seed, stage, epoch, batch, rank.
    """
    state = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(state[0]))
    np.random.seed(int(state[1]))  # noqa: NPY002  (libraries that use the global generator)
    torch.manual_seed((int(state[2]) << 32) | int(state[3]))


class StepSeed(Callback):
    """Seed every generator before each batch from its place in the run.

    Training batches use (seed, 0, epoch, batch, rank), evaluation batches (seed, 1, loader, batch,
    rank): masks drawn in validation are the same at each validation, and nothing has to be stored
    to resume exactly.

    Args:
        seed: First number of the key; by default the run's ``seed_everything``.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed

    def _base(self) -> int:
        return global_seed() if self.seed is None else self.seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        seed_all(self._base(), 0, trainer.current_epoch, batch_idx, trainer.global_rank)

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        seed_all(self._base(), 1, dataloader_idx, batch_idx, trainer.global_rank)

    on_test_batch_start = on_validation_batch_start
    on_predict_batch_start = on_validation_batch_start
