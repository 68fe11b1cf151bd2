"""Lightning's search for a learning rate and a batch size, with our tasks and data."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.tuner import Tuner
from toy import Keep, ToyData, differences, final_state, make_task, make_trainer

from sciml.core.checkpoint import read
from sciml.core.optim import Optim


@pytest.mark.parametrize("schedule", ["constant", "cosine", "plateau"])
def test_rate_that_was_found_is_the_one_trained_with(schedule: Any, tmp_path: Path) -> None:
    finder = LearningRateFinder(min_lr=1e-6, max_lr=1.0, num_training_steps=30)
    task = make_task(Optim(lr=1e-4, schedule=schedule, monitor="val/mae", patience=99))
    trainer = make_trainer(tmp_path, finder, Keep(tmp_path / "kept"), max_epochs=2)
    trainer.fit(task, datamodule=ToyData(size=64))
    assert finder.optimal_lr is not None
    found = finder.optimal_lr.suggestion()
    assert found is not None
    assert task.lr == found != 1e-4
    state = read(tmp_path / "kept/016-batch.ckpt")["optimizer_states"][0]
    factor = 0.5 if schedule == "cosine" else 1.0  # half of the run is over
    assert state["param_groups"][0]["lr"] == pytest.approx(found * factor)
    assert state["param_groups"][0]["initial_lr"] == pytest.approx(found)


def test_looking_for_a_rate_changes_nothing_else(tmp_path: Path) -> None:
    plain = make_trainer(tmp_path)
    plain.fit(make_task(Optim(lr=0.01)), datamodule=ToyData())
    finder = LearningRateFinder(num_training_steps=30, update_attr=False)
    found = make_trainer(tmp_path, finder)
    found.fit(make_task(Optim(lr=0.01)), datamodule=ToyData())
    assert not differences(final_state(found), final_state(plain))


@pytest.mark.parametrize("finder", [LearningRateFinder, BatchSizeFinder])
def test_searching_at_a_resume_is_refused(finder: Callable[[], Callback], tmp_path: Path) -> None:
    make_trainer(tmp_path, Keep(tmp_path / "kept"), max_epochs=1).fit(
        make_task(), datamodule=ToyData()
    )
    with pytest.raises(ValueError, match="they would start it afresh"):
        make_trainer(tmp_path, finder()).fit(
            make_task(), datamodule=ToyData(), ckpt_path=tmp_path / "kept/002-batch.ckpt"
        )


def test_tuner_sets_rate_and_batch_size(tmp_path: Path) -> None:
    task, data = make_task(Optim(lr=1e-4)), ToyData(size=64)
    tuner = Tuner(make_trainer(tmp_path))
    finder = tuner.lr_find(task, datamodule=data, num_training=30)
    assert finder is not None
    assert task.lr == finder.suggestion()
    assert tuner.scale_batch_size(task, datamodule=data, init_val=2, steps_per_trial=1) == 64
    assert data.batch_size == 64


def test_schedule_has_the_length_of_the_batches_that_were_found(tmp_path: Path) -> None:
    data = ToyData(size=64)
    finder = BatchSizeFinder(init_val=2, steps_per_trial=1, max_trials=4)
    task = make_task(Optim(lr=0.01, schedule="cosine"))
    trainer = make_trainer(tmp_path, finder, Keep(tmp_path / "kept"), max_epochs=2)
    trainer.fit(task, datamodule=data)
    half = math.ceil(64 / data.batch_size)
    assert trainer.global_step == 2 * half
    state = read(tmp_path / f"kept/{half:03d}-batch.ckpt")["optimizer_states"][0]
    assert state["param_groups"][0]["lr"] == pytest.approx(0.005)
