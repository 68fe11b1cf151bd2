"""A task and data small enough to train in a test, and the means to compare whole runs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.core.mixins import HyperparametersMixin
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset
from torchmetrics import MeanAbsoluteError

from sciml.core.data import DataModule, Split
from sciml.core.ema import EMA
from sciml.core.optim import Optim
from sciml.core.requeue import Requeue
from sciml.core.seed import StepSeed
from sciml.core.stream import ChunkSource, StreamLoader, StreamOrder
from sciml.core.task import Task

EVALUATED = 13  # samples of every split but train: odd, so that two ranks are uneven


class ToyNet(nn.Module, HyperparametersMixin):
    """Two layers with dropout, and buffers that must never be averaged.

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
        self.register_buffer("even", torch.arange(50) % 2 == 0)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        y: Tensor = self.last(self.drop(torch.tanh(self.first(x))))
        return y.squeeze(-1)


class ToyTask(Task):
    """Regress a line, with noise drawn in the training step.

    Args:
        net: Network.
        optim: How the weights are updated.
        init_from: Checkpoint to start from.
    """

    def __init__(
        self, net: ToyNet, optim: Optim = Optim(lr=0.01), init_from: str | None = None
    ) -> None:
        super().__init__(optim, init_from=init_from)
        self.save_hyperparameters()
        self.net = net
        self.val_mae = MeanAbsoluteError()
        self.test_mae = MeanAbsoluteError()

    def training_step(self, batch: Sequence[Tensor], index: int) -> Tensor:
        x, y = batch[0], batch[1]
        loss = (self.net(x + 0.1 * torch.randn_like(x)) - y).abs().mean()
        self.log("train/loss", loss, batch_size=len(y))
        return loss

    def validation_step(self, batch: Sequence[Tensor], index: int) -> None:
        self.val_mae(self.net(batch[0]), batch[1])
        self.log("val/mae", self.val_mae, batch_size=len(batch[1]))

    def test_step(self, batch: Sequence[Tensor], index: int) -> None:
        self.test_mae(self.net(batch[0]), batch[1])
        self.log("test/mae", self.test_mae, batch_size=len(batch[1]))

    def predict_step(self, batch: Sequence[Tensor], index: int) -> dict[str, Tensor]:
        return {"y": self.net(batch[0]), "id": batch[2]}

    def identifiers(self, batch: Sequence[Tensor]) -> list[int]:
        return [int(value) for value in batch[2]]

    def depth(self, name: str) -> int:
        return 0 if name.startswith("net.last") else 1


def points(split: Split, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, labels and numbers of the points of a split."""
    rng = np.random.default_rng(["train", "val", "test", "predict"].index(split))
    x = torch.from_numpy(rng.normal(size=(count, 2)).astype("float32"))
    return x, x @ torch.tensor([1.0, -2.0]), torch.arange(count)


class ToyData(DataModule):
    """Points on a line.

    Args:
        size: Training points.
        batch_size: Points a batch.
        num_workers: Loader processes.
        samples_per_epoch: Length of a training epoch.
        sized: Give every point a size, so that batches are size-aware.
        poison: Training points from this one on have a NaN label.
    """

    def __init__(
        self,
        size: int = 14,
        batch_size: int = 4,
        num_workers: int = 0,
        samples_per_epoch: int | None = None,
        sized: bool = False,
        poison: int | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, samples_per_epoch=samples_per_epoch)
        self.save_hyperparameters()
        self.size = size
        self.sized = sized
        self.poison = poison

    def files(self) -> list[Path]:
        return []

    def dataset(self, split: Split) -> Dataset[Any]:
        x, y, number = points(split, self.size if split == "train" else EVALUATED)
        if split == "train" and self.poison is not None:
            y[self.poison :] = torch.nan
        return TensorDataset(x, y, number)

    def sizes(self, split: Split) -> NDArray[np.int64] | None:
        if not self.sized:
            return None
        return np.arange(self.size if split == "train" else EVALUATED) % 7 + 1

    @property
    def budget(self) -> int | None:
        return 12


class ToySource(ChunkSource):
    """The training points in chunks of one to four rows; notes what is read.

    Args:
        size: Training points.
        log: File that gets a line for every chunk that is read, by any process.
    """

    def __init__(self, size: int = 14, log: Path | None = None) -> None:
        borders = np.minimum(np.cumsum([0, *(np.arange(size) % 4 + 1)]), size)
        self.borders = np.unique(borders).tolist()
        self.chunk_rows = np.diff(self.borders).tolist()
        self.log = log
        self.rows = [column.numpy() for column in points("train", size)]

    def read(self, chunk: int) -> dict[str, NDArray[np.generic]]:
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{chunk}\n")
        part = slice(self.borders[chunk], self.borders[chunk + 1])
        return {name: rows[part] for name, rows in zip(("x", "y", "id"), self.rows, strict=True)}


class StreamedBatches(StreamLoader):
    """The loader of a stream, with batches as the toy task takes them."""

    def __iter__(self) -> Any:
        return (tuple(batch.values()) for batch in super().__iter__())


class ToyStream(ToyData):
    """The same points with a streamed training split."""

    def train_dataloader(self) -> StreamedBatches:  # type: ignore[override]
        order = StreamOrder(seed=self.seed, chunks_per_block=2, rank=self._rank())
        source = ToySource(self.size)
        return StreamedBatches(source, order, self.batch_size, num_workers=self.num_workers)


class Keep(Checkpoint):
    """Write a checkpoint wherever ModelCheckpoint could, named after step and hook."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _save(self, trainer: Trainer, hook: str) -> None:
        if not trainer.sanity_checking:
            trainer.save_checkpoint(self.folder / f"{trainer.global_step:03d}-{hook}.ckpt")

    def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        if (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._save(trainer, "batch")

    def on_validation_end(self, trainer: Trainer, *rest: Any) -> None:
        if (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._save(trainer, "validation")

    def on_train_epoch_end(self, trainer: Trainer, *rest: Any) -> None:
        self._save(trainer, "epoch")


class Validations(Callback):
    """Remember what every validation of a fit found, by optimizer step."""

    def __init__(self) -> None:
        self.found: dict[int, float] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self.found[trainer.global_step] = float(trainer.callback_metrics["val/mae"])


def make_trainer(folder: Path, *callbacks: Callback, **kwargs: Any) -> Trainer:
    """A quiet CPU trainer with the application's callbacks."""
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 3,
        "logger": False,
        "enable_checkpointing": any(isinstance(one, Checkpoint) for one in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "inference_mode": False,
        "default_root_dir": folder,
        "log_every_n_steps": 1,
    }
    given = list(callbacks)
    for make in (lambda: EMA(0.9), lambda: StepSeed(7), Requeue):
        if not any(isinstance(one, type(make())) for one in given):
            given.insert(0, make())
    return Trainer(callbacks=given, **(settings | kwargs))


def make_task(optim: Optim = Optim(lr=0.01), make: Callable[..., ToyTask] = ToyTask) -> ToyTask:
    """A toy task whose first weights are always the same."""
    torch.manual_seed(0)
    return make(ToyNet(), optim)


def final_state(trainer: Trainer) -> dict[str, Any]:
    """All that a resumed run has to reproduce: weights, average, optimizer, schedule, callbacks."""
    path = Path(trainer.default_root_dir) / "final.ckpt"
    trainer.save_checkpoint(path)
    content = torch.load(path, weights_only=True)
    kept = ("state_dict", "raw_state", "ema", "optimizer_states", "lr_schedulers")
    return {name: content.get(name) for name in kept}


def edited(path: Path, **hyper_parameters: Any) -> Path:
    """A checkpoint with other hyper-parameters."""
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"] |= hyper_parameters
    changed = path.with_name("edited.ckpt")
    torch.save(content, changed)
    return changed


def differences(left: Any, right: Any, where: str = "") -> list[str]:
    """Places where two nested states are not equal to the last bit."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return [] if torch.equal(left, right) else [where]
    if isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
        return [d for key in left for d in differences(left[key], right[key], f"{where}/{key}")]
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        pairs = enumerate(zip(left, right, strict=True))
        return [d for place, (a, b) in pairs for d in differences(a, b, f"{where}/{place}")]
    return [] if type(left) is type(right) and left == right else [f"{where}: {left} {right}"]
