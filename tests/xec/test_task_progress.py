import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from gamma_files import quiet_trainer, stream, tiny_task
from gammas import gammas
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from sciml.core.journal import Journal
from sciml.xec.task.progress import FEWEST, TrainingWatch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def test_what_loading_costs_is_logged_in_every_epoch_and_printed_in_some(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)
    logger = CSVLogger(tmp_path, name="", version="one")
    trainer = quiet_trainer(
        tmp_path, Journal(), logger=logger, max_epochs=5, limit_val_batches=0, gradient_clip_val=1.0
    )
    data = stream(folder)
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        trainer.fit(tiny_task(figure_every_n_epochs=3), datamodule=data)
    printed = [one.message for one in caplog.records if "events," in one.message]
    assert [line.split(":")[0] for line in printed] == ["epoch 0", "epoch 3"]
    assert "12 events" in printed[0]
    lines = (tmp_path / "one" / "epochs.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 5
    for row in rows:
        seconds = 12 / row["train/events_per_second"]  # of these the epoch had some
        assert 0 < row["train/read_seconds"] <= row["train/wait_seconds"] < seconds
        assert seconds <= row["seconds"]
        assert row["train/gradient_norm"] > 0
        assert 0 <= row["train/clipped"] <= 1
    assert data.profile("train").events == 12


def test_data_without_a_profile_train_as_well(tmp_path: Path) -> None:
    batch = gammas(4)
    samples = [{name: values[row] for name, values in batch.items()} for row in range(4)]
    loader = DataLoader(samples, batch_size=2)  # type: ignore[arg-type]
    trainer = quiet_trainer(tmp_path, Keep())
    trainer.fit(tiny_task(), loader, loader)
    assert torch.isfinite(trainer.callback_metrics["val/score"])
    assert "train/events_per_second" not in trainer.callback_metrics


class Keep(Callback):
    """Only there so that the trainer has another callback."""


class Steps:
    """A task whose gradients are given."""

    def __init__(self, *norms: float) -> None:
        self.norms = list(norms)
        self.logged: list[tuple[str, float]] = []
        self.trainer = type("Trainer", (), {"datamodule": None, "world_size": 1})()

    def parameters(self) -> list[torch.nn.Parameter]:
        parameter = torch.nn.Parameter(torch.zeros(2))
        norm = self.norms.pop(0)
        if norm >= 0:
            parameter.grad = torch.tensor([0.6 * norm, 0.8 * norm])
        return [parameter]

    def log(self, name: str, value: Any, **_: Any) -> None:
        self.logged.append((name, float(value)))


def watched(norms: list[float], limit: float | None = 1.0) -> tuple[TrainingWatch, Any]:
    watch, steps = TrainingWatch(), Steps(*norms)
    for _ in norms:
        watch.see_gradient(steps, limit)  # type: ignore[arg-type]
    return watch, steps


def test_gradients_are_logged_before_they_are_clipped() -> None:
    _, steps = watched([20.0, 0.5, -1.0])  # the last step is skipped and has no gradients
    assert [round(value, 5) for _, value in steps.logged] == [20.0, 1.0, 0.5, 0.0]
    assert [name for name, _ in steps.logged[:2]] == ["train/gradient_norm", "train/clipped"]
    _, free = watched([20.0], limit=None)
    assert [name for name, _ in free.logged] == ["train/gradient_norm"]


def test_steps_that_are_nearly_all_clipped_are_told_once() -> None:
    watch, steps = watched([20.0] * 95 + [0.5] * 5, limit=0.1)
    with pytest.warns(UserWarning, match=r"100% of the last 100 steps .* norm of 20 .* is 0\.1;"):
        watch.end_epoch(steps, True)
    watch.end_epoch(steps, True)  # warnings are errors here


@pytest.mark.parametrize("norms", [[20.0] * (FEWEST - 1), [20.0] * 89 + [0.5] * 11, [0.5] * 200])
def test_rare_clipping_is_not_told(norms: list[float], recwarn: pytest.WarningsRecorder) -> None:
    watch, steps = watched(norms)
    watch.end_epoch(steps, True)
    assert not recwarn.list


def test_clipping_by_value_has_no_norm_to_compare(folder: Path, tmp_path: Path) -> None:
    trainer = quiet_trainer(
        tmp_path, limit_val_batches=0, gradient_clip_val=1e-6, gradient_clip_algorithm="value"
    )
    trainer.fit(tiny_task(), datamodule=stream(folder))
    assert "train/clipped" not in trainer.callback_metrics
    assert float(trainer.callback_metrics["train/gradient_norm"]) > 1e-3
