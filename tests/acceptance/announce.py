"""A callback for the signal checks: says when training and validation are under way."""

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Announce(Callback):
    """Touch a file at a training batch and at a validation batch, then give a signal time to come.

    Args:
        folder: Where the files ``training`` and ``validating`` appear.
        batch: Number of training batches before the first file appears.
        epoch: Epoch whose validation is announced.
    """

    def __init__(self, folder: str, batch: int = 2, epoch: int = 0) -> None:
        self.folder = Path(folder)
        self.batch = batch
        self.epoch = epoch

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.batch:
            self._say("training")

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not trainer.sanity_checking and trainer.current_epoch == self.epoch:
            self._say("validating")

    def _say(self, word: str) -> None:
        mark = self.folder / word
        if not mark.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            mark.touch()
            time.sleep(1.5)
