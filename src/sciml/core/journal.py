"""A line of JSON an epoch: what a run measured, for reading without a logger."""

import json
import math
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn


class Journal(Callback):
    """Append a line to ``epochs.jsonl`` in the folder of the run after every training epoch.

    It holds epoch, step, seconds of the epoch (of what was left of it where a run is resumed inside
    one), learning rate, the largest dropout in the network if it has any, and all metrics, null
    where they are not finite. A resumed run goes on in the same file when it has the same folder.
    """

    def __init__(self) -> None:
        self._start = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.perf_counter()  # no epoch starts where one is resumed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = trainer.log_dir
        if not trainer.is_global_zero or folder is None or _dry(trainer):
            return
        rates = [group["lr"] for one in trainer.optimizers for group in one.param_groups]
        line: dict[str, Any] = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "seconds": round(time.perf_counter() - self._start, 3),
            "lr": max(rates, default=0.0),
        }
        dropout = [layer.p for layer in pl_module.modules() if isinstance(layer, nn.Dropout)]
        if dropout:
            line["dropout"] = max(dropout)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        line |= {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        path = Path(folder) / "epochs.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _dry(trainer: Trainer) -> bool:
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
