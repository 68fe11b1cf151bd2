import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Callback, Trainer, seed_everything
from toy import ToyData, make_task, make_trainer

from sciml.core.seed import StepSeed, global_seed, seed_all


class Draws(Callback):
    """Draw a number of every generator where the batch begins; then disturb them all."""

    def __init__(self) -> None:
        self.drawn: dict[str, list[tuple[float, ...]]] = {}

    def _draw(self, stage: str) -> None:
        numbers = (random.random(), np.random.random(), float(torch.rand(())))  # noqa: NPY002
        self.drawn.setdefault(stage, []).append(numbers)

    def on_train_batch_start(self, trainer: Trainer, *rest: Any) -> None:
        self._draw("train")

    def on_validation_batch_start(self, trainer: Trainer, *rest: Any) -> None:
        self._draw("sanity" if trainer.sanity_checking else "validation")

    def on_test_batch_start(self, trainer: Trainer, *rest: Any) -> None:
        self._draw("test")

    def on_predict_batch_start(self, trainer: Trainer, *rest: Any) -> None:
        self._draw("predict")


def draw(folder: Path, seed: StepSeed) -> dict[str, list[tuple[float, ...]]]:
    draws = Draws()
    trainer = make_trainer(folder, seed, draws, max_epochs=2)
    task, data = make_task(), ToyData()
    trainer.fit(task, datamodule=data)
    trainer.test(task, datamodule=data, verbose=False)
    trainer.predict(task, datamodule=data)
    return draws.drawn


def test_draws_depend_on_the_place_in_the_run_alone(tmp_path: Path) -> None:
    drawn = draw(tmp_path, StepSeed(7))
    random.seed(), torch.seed()
    assert draw(tmp_path, StepSeed(7)) == drawn
    assert len(set(drawn["train"])) == 8  # two epochs of four batches, all different
    first, second = drawn["validation"][:4], drawn["validation"][4:]
    assert first == second == drawn["test"] == drawn["predict"]
    assert drawn["sanity"] == first[:2]
    assert not set(first) & set(drawn["train"])


def test_another_seed_draws_other_numbers(tmp_path: Path) -> None:
    one, other = draw(tmp_path, StepSeed(7)), draw(tmp_path, StepSeed(8))
    for stage in one:
        assert not set(one[stage]) & set(other[stage])


def test_seed_is_that_of_the_run_unless_given(tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):  # seed_everything writes to both
        monkeypatch.setenv(name, "0")
    assert global_seed() == 0
    seed_everything(7, verbose=False)
    assert global_seed() == 7
    assert draw(tmp_path, StepSeed()) == draw(tmp_path, StepSeed(7))


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=5), st.integers(0, 4))
def test_every_number_of_the_key_matters(key: list[int], place: int) -> None:
    seed_all(*key)
    before = random.random(), np.random.random(), float(torch.rand(()))  # noqa: NPY002
    place %= len(key)
    seed_all(*key[:place], key[place] + 1, *key[place + 1 :])
    after = random.random(), np.random.random(), float(torch.rand(()))  # noqa: NPY002
    assert not set(before) & set(after)


class Masked(Callback):
    """Keep dropout on in validation."""

    def on_validation_epoch_start(self, trainer: Trainer, module: Any) -> None:
        module.net.drop.train()


def test_masks_drawn_in_validation_are_those_of_every_validation(tmp_path: Path) -> None:
    task = make_task()

    def error(*callbacks: Callback) -> float:
        trainer = make_trainer(tmp_path, *callbacks)
        return trainer.validate(task, datamodule=ToyData(), verbose=False)[0]["val/mae"]

    assert error(Masked()) == error(Masked()) != error()
