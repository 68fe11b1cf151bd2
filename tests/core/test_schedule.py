from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, OneCycleLR
from toy import ToyData, make_task, make_trainer

from sciml.core.optim import Optim
from sciml.core.schedule import Length, learning_rate_factor

SCHEDULES = get_args(get_type_hints(Optim)["schedule"])


def rates(optim: Optim, steps: int, epoch: int = 1) -> list[float]:
    """The factor at every step of a run, and after its last one."""
    length = Length(steps, epoch)
    return [learning_rate_factor(step, optim, length) for step in range(steps + 1)]


def torch_rates(make: Callable[[Any], Any], steps: int) -> list[float]:
    """What a schedule of torch makes of a rate of 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, found = make(optimizer), []
    for _ in range(steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(found) <= steps:
            schedule.step()
    return found


def test_cosine_is_that_of_torch() -> None:
    expected = torch_rates(lambda o: CosineAnnealingLR(o, 50, eta_min=0.01), 50)
    assert rates(Optim(schedule="cosine", min_lr=0.01), 50) == pytest.approx(expected)


def test_restarts_are_those_of_torch() -> None:
    expected = torch_rates(lambda o: CosineAnnealingWarmRestarts(o, 10, T_mult=2), 80)
    assert rates(Optim(schedule="cosine_restarts", period=10), 80) == pytest.approx(expected)
    assert rates(Optim(schedule="cosine_restarts", period=0.125), 80) == pytest.approx(expected)


def test_onecycle_is_that_of_torch() -> None:
    def make(optimizer: Any) -> OneCycleLR:
        return OneCycleLR(
            optimizer, max_lr=1.0, total_steps=51, pct_start=0.3, cycle_momentum=False
        )

    # the last rate of torch is the first one, 1/25, over 1e4
    optim = Optim(schedule="onecycle", min_lr=1 / 25 / 1e4)
    assert rates(optim, 50) == pytest.approx(torch_rates(make, 50))


def test_exponential_counts_epochs() -> None:
    found = rates(Optim(schedule="exponential", gamma=0.5), 8, epoch=4)
    assert found[0] == 1
    assert (found[4], found[8]) == pytest.approx((0.5, 0.25))


@pytest.mark.parametrize("warmup", [10, 0.1])
def test_warm_up_is_linear_and_the_schedule_starts_behind_it(warmup: float) -> None:
    found = rates(Optim(schedule="cosine", warmup=warmup), 100)
    assert found[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert found[10:] == pytest.approx(rates(Optim(schedule="cosine"), 90))


@given(
    st.sampled_from([name for name in SCHEDULES if name != "plateau"]),
    st.integers(1, 300),
    st.floats(0, 20),
    st.floats(0, 0.5),
    st.floats(0.01, 20),
    st.floats(0.01, 0.9),
)
def test_rate_stays_between_its_bounds(
    schedule: Any, steps: int, warmup: float, min_lr: float, period: float, pct_start: float
) -> None:
    optim = Optim(
        schedule=schedule, warmup=warmup, min_lr=min_lr, period=period, pct_start=pct_start
    )
    found = rates(optim, steps, epoch=7)
    assert all(0 <= factor <= 1 + 1e-12 for factor in found)
    if not warmup and schedule != "onecycle":  # which starts at a 25th
        assert all(factor >= min_lr - 1e-12 for factor in found)


@pytest.mark.parametrize("optim", [Optim(schedule="cosine"), Optim(warmup=0.1)])
def test_a_run_without_end_needs_a_schedule_without_end(optim: Optim, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_epochs=-1, max_time={"seconds": 1})
    with pytest.raises(ValueError, match=r"set --trainer.max_epochs or --trainer.max_steps"):
        trainer.fit(make_task(optim), datamodule=ToyData())


def test_constant_rate_may_train_without_end(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_epochs=-1, max_time={"milliseconds": 10})
    trainer.fit(make_task(Optim(warmup=2)), datamodule=ToyData())
    assert trainer.global_step > 0


def test_plateau_wants_no_warm_up_a_validation_and_a_metric(tmp_path: Path) -> None:
    for optim, settings, sentence in (
        (Optim(schedule="plateau", warmup=3), {}, "has no warm-up"),
        (Optim(schedule="plateau"), {"limit_val_batches": 0}, "needs validation data"),
        (Optim(schedule="plateau", monitor="val/x"), {}, "'val/x' is not logged; there are train/"),
    ):
        with pytest.raises(ValueError, match=sentence):
            make_trainer(tmp_path, **settings).fit(make_task(optim), datamodule=ToyData())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_trains(schedule: Any, tmp_path: Path) -> None:
    optim = Optim(lr=0.03, schedule=schedule, monitor="val/mae")
    trainer = make_trainer(
        tmp_path, LearningRateMonitor("step"), logger=CSVLogger(tmp_path), max_epochs=2
    )
    trainer.fit(make_task(optim), datamodule=ToyData())
    assert trainer.global_step == 8
