"""A task and a data module small enough to train in a test: noisy lines with dropout."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.core.mixins import HyperparametersMixin
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset
from torchmetrics import MeanAbsoluteError

from sciml.core.data import DataModule, Split
from sciml.core.ema import EMA
from sciml.core.optim import Optim
from sciml.core.requeue import Requeue
from sciml.core.seed import StepSeed
from sciml.core.task import Task


class ToyNet(nn.Module, HyperparametersMixin):
    """Two layers with dropout, and an index buffer that must never be averaged.

    Args:
        width: Hidden units.
    """

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.first = nn.Linear(2, width)
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(width, 1)
        self.register_buffer("index", torch.arange(5000))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        y: Tensor = self.last(self.drop(torch.tanh(self.first(x))))
        return y.squeeze(-1)


class ToyTask(Task):
    """Regress a line.

    Args:
        net: Network.
        optim: How the weights are updated.
        init_from: Checkpoint to start from.
    """

    def __init__(
        self, net: ToyNet, optim: Optim = Optim(), init_from: str | None = None
    ) -> None:
        super().__init__(optim, init_from=init_from)
        self.save_hyperparameters()
        self.net = net
        self.val_mae = MeanAbsoluteError()
        self.test_mae = MeanAbsoluteError()

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        x, y, _ = batch
        loss = (self.net(x + 0.1 * torch.randn_like(x)) - y).abs().mean()
        self.log("train/loss", loss, batch_size=len(y))
        return loss

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        x, y, _ = batch
        self.val_mae(self.net(x), y)
        self.log("val/mae", self.val_mae, batch_size=len(y))

    def test_step(self, batch: list[Tensor], index: int) -> None:
        x, y, _ = batch
        self.test_mae(self.net(x), y)
        self.log("test/mae", self.test_mae, batch_size=len(y))

    def predict_step(self, batch: list[Tensor], index: int) -> dict[str, Tensor]:
        return {"y": self.net(batch[0]), "id": batch[2]}

    def identifiers(self, batch: list[Tensor]) -> list[int]:
        return [int(value) for value in batch[2]]


class ToyData(DataModule):
    """Points on a noisy line.

    Args:
        size: Training points; validation and test have 13.
        batch_size: Points a batch.
        num_workers: Loader processes.
        sized: Give every point a size, so that batches are size-aware.
        poison: Index of a training point whose label is NaN.
    """

    def __init__(
        self,
        size: int = 37,
        batch_size: int = 4,
        num_workers: int = 0,
        sized: bool = False,
        poison: int | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers)
        self.save_hyperparameters()
        self.size = size
        self.sized = sized
        self.poison = poison

    def dataset(self, split: Split) -> Dataset[Any]:
        rng = np.random.default_rng(["train", "val", "test", "predict"].index(split))
        count = self.size if split == "train" else 13
        x = torch.from_numpy(rng.normal(size=(count, 2)).astype("float32"))
        y = x @ torch.tensor([1.0, -2.0])
        if split == "train" and self.poison is not None:
            y[self.poison :] = torch.nan
        return TensorDataset(x, y, torch.arange(count))

    def sizes(self, split: Split) -> np.ndarray | None:
        if not self.sized:
            return None
        return np.arange(self.size if split == "train" else 13) % 7 + 1


def make_trainer(folder: Path, epochs: int = 3, *extra: Callback, **kwargs: Any) -> Trainer:
    """A quiet CPU trainer with the application's callbacks that keeps every checkpoint."""
    every = ModelCheckpoint(
        dirpath=folder / "every",
        filename="{step}",
        save_top_k=-1,
        every_n_train_steps=1,
        save_last=True,
    )
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": epochs,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "inference_mode": False,
        "default_root_dir": folder,
        "log_every_n_steps": 1,
    }
    given = list(extra) or [EMA(0.9), StepSeed(7), every]
    return Trainer(callbacks=[*given, Requeue()], **(settings | kwargs))


def final_state(path: Path) -> dict[str, Any]:
    """Everything a resumed run has to reproduce: raw and averaged weights, optimizer, schedule."""
    content = torch.load(path, weights_only=True)
    keep = ("state_dict", "raw_state", "ema", "optimizer_states", "lr_schedulers")
    return {name: content[name] for name in keep if name in content}


def same(left: Any, right: Any) -> bool:
    """Whether two nested states are equal to the last bit."""
    if isinstance(left, Tensor):
        return bool(torch.equal(left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(
            same(a, b) for a, b in zip(left, right, strict=True)
        )
    return bool(left == right)
