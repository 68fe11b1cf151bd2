"""What both of two processes do in `test_ddp`: every scenario after the other.

Started as ``python two_ranks.py FOLDER``; writes ``FOLDER/<rank>.pt``, a dictionary from the name
of a scenario to what it found, and leaves through the last scenario, a requeued job.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy
from matplotlib import pyplot as plt
from toy import (
    Keep,
    ToyData,
    ToyStream,
    ToyTask,
    Validations,
    differences,
    final_state,
    make_task,
    make_trainer,
)

from sciml.core.optim import Optim
from sciml.core.predictions import PredictionWriter
from sciml.core.provenance import Provenance

RANK = int(os.environ["RANK"])
FOLDER = Path(sys.argv[1])
PLATEAU = Optim(lr=0.05, schedule="plateau", patience=0, factor=0.5, monitor="val/mae")


def two(folder: Path, *callbacks: Callback, **settings: Any) -> Trainer:
    """A trainer of this process and its twin; a twin that does not come is an error, soon."""
    strategy = DDPStrategy(timeout=timedelta(seconds=60))
    return make_trainer(folder, *callbacks, devices=2, strategy=strategy, **settings)


def weights(task: ToyTask) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in task.named_parameters()}


def evaluate() -> Any:
    task, trainer = make_task(), two(FOLDER)
    tested = trainer.test(task, datamodule=ToyData(), verbose=False)
    validated = trainer.validate(task, datamodule=ToyData(sized=True), verbose=False)
    return tested[0]["test/mae"], validated[0]["val/mae"]


class Seen(Callback):
    """Numbers of the training samples on this process."""

    def __init__(self) -> None:
        self.train: list[int] = []

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        self.train += batch[2].tolist()


def train() -> Any:
    found = {}
    for data in (ToyData(size=15), ToyData(size=15, sized=True), ToyStream(size=15)):
        seen, task = Seen(), make_task(Optim(lr=0.01))
        trainer = two(FOLDER, seen, max_epochs=1)
        trainer.fit(task, datamodule=data)
        found[f"{type(data).__name__}-{data.sized}"] = seen.train, weights(task)
    return found


def resume() -> Any:
    """What differs after resuming several checkpoints of several kinds of runs."""
    wrong = []
    cases = {
        "map": (ToyData(size=29), PLATEAU),
        "sized": (ToyData(size=29, sized=True), Optim(lr=0.01, schedule="cosine")),
        "stream": (ToyStream(size=29), Optim(name="muon", lr=0.01)),
    }
    for name, (data, optim) in cases.items():
        folder = FOLDER / f"resume-{name}"

        def run(*more: Callback, ckpt_path: Path | None = None) -> Any:
            history = Validations()
            trainer = two(folder, history, *more, max_epochs=2)  # noqa: B023
            trainer.fit(make_task(optim), datamodule=data, ckpt_path=ckpt_path)  # noqa: B023
            return final_state(trainer), history.found

        expected, history = run(Keep(folder / "kept"))
        steps = max(history) // 2
        for path in (f"{2:03d}-batch", f"{steps:03d}-batch", f"{steps:03d}-epoch"):
            state, again = run(ckpt_path=folder / f"kept/{path}.ckpt")
            wrong += [f"{name} {path} {place}" for place in differences(state, expected)]
            first = int(path[:3]) + path.endswith("epoch")
            if again != {k: v for k, v in history.items() if k >= first}:
                wrong.append(f"{name} {path} {again} {history}")
    return wrong


class HalfPoisoned(ToyTask):
    """On the second process the labels of some steps are not numbers."""

    steps: frozenset[int] | set[int] = frozenset()

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        loss = super().training_step(batch, index)
        return loss * torch.nan if RANK == 1 and self.global_step in self.steps else loss


class Weights(Callback):
    """Weights after every step."""

    def __init__(self) -> None:
        self.found: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, *rest: Any) -> None:
        self.found.append(weights(module))


def guard() -> Any:
    task, steps = make_task(make=HalfPoisoned), Weights()
    task.steps = {1, 4}  # type: ignore[attr-defined]
    two(FOLDER, steps, max_epochs=3).fit(task, datamodule=ToyData(size=16))
    return task.skipped, steps.found


def give_up() -> Any:
    task = make_task(make=HalfPoisoned)
    task.steps = set(range(99))  # type: ignore[attr-defined]
    try:
        two(FOLDER, max_epochs=30).fit(task, datamodule=ToyData(size=16))
    except ValueError as error:
        return str(error)
    return "went on"


def predict() -> Any:
    path = FOLDER / "predicted.npz"
    task = make_task()
    two(FOLDER, PredictionWriter(str(path))).predict(
        task, datamodule=ToyData(batch_size=3), return_predictions=False
    )
    try:
        two(FOLDER, PredictionWriter(str(path))).predict(task, datamodule=ToyData())
    except ValueError as error:
        return str(error), sorted(p.name for p in FOLDER.glob("*predicted*"))
    return "went on"


class DrawingTask(ToyTask):
    """Draws on every process."""

    def on_validation_epoch_end(self) -> None:
        self.log_figure("val/line", plt.figure())


def log() -> Any:
    logger = CSVLogger(FOLDER, name="logged", version="run")
    best = ModelCheckpoint(monitor="val/mae", save_last=True)
    trainer = two(FOLDER, Provenance(), best, logger=logger)
    trainer.fit(make_task(make=DrawingTask), datamodule=ToyData())
    return trainer.log_dir, best.best_model_path, plt.get_fignums()


class Statistics(ToyData):
    """Data whose statistics only the first process may ask for."""

    def statistics(self) -> list[float]:
        assert RANK == 0
        return [1.0, 2.0]


class StatisticalTask(ToyTask):
    """Keeps the statistics."""

    def use_statistics(self, statistics: Any) -> None:
        self.found = statistics


def statistics() -> Any:
    task = make_task(make=StatisticalTask)
    two(FOLDER, max_epochs=1).fit(task, datamodule=Statistics())
    return task.found  # type: ignore[attr-defined]


def divided_twice() -> Any:
    try:
        two(FOLDER, use_distributed_sampler=True).test(make_task(), datamodule=ToyData())
    except ValueError as error:
        return str(error)
    return "went on"


def too_small() -> Any:
    try:
        two(FOLDER, max_epochs=1).fit(make_task(), datamodule=ToyData(size=1))
    except ValueError as error:
        return str(error)
    return "went on"


class Announce(Callback):
    """Send the signal to the second process only, at a step."""

    def on_train_batch_start(self, trainer: Trainer, *rest: Any) -> None:
        if RANK == 1 and trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGUSR1)


def requeued(*more: Callback, name: str) -> Trainer:
    folder = FOLDER / name
    last = ModelCheckpoint(folder / "checkpoints", save_last=True)
    trainer = two(folder, last, *more, max_epochs=2)
    path = folder / "checkpoints/last.ckpt"
    data = ToyData(size=29)
    trainer.fit(make_task(PLATEAU), datamodule=data, ckpt_path=path if path.exists() else None)
    return trainer


def requeue() -> Any:
    """Where the job was left, and what differs between the continued and a whole run."""
    code: Any = "went on"
    try:
        requeued(Announce(), name="left")
    except SystemExit as leaving:
        code = leaving.code
    step = torch.load(FOLDER / "left/checkpoints/last.ckpt", weights_only=True)["global_step"]
    continued = final_state(requeued(name="left"))
    return code, step, differences(continued, final_state(requeued(name="whole")))


SCENARIOS: tuple[Callable[[], Any], ...] = (
    evaluate,
    train,
    resume,
    guard,
    give_up,
    predict,
    log,
    statistics,
    divided_twice,
    too_small,
    requeue,
)


def main() -> None:
    torch.set_num_threads(1)
    found = {}
    for scenario in SCENARIOS:
        try:
            found[scenario.__name__] = scenario()
        except Exception:  # noqa: BLE001  (reported by the test of this scenario)
            found[scenario.__name__] = traceback.format_exc()
        torch.save(found, FOLDER / f"{RANK}.pt")
    requeued(Announce(), name="last")


if __name__ == "__main__":
    main()
