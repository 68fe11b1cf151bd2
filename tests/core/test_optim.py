import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, OneCycleLR
from toy import Keep, ToyData, ToyNet, ToyTask, differences, final_state, make_task, make_trainer

from sciml.core.checkpoint import read
from sciml.core.optim import Optim, build_optimizer, parameter_groups
from sciml.core.schedule import Length, learning_rate_factor

HINTS = get_type_hints(Optim)
NAMES = get_args(HINTS["name"])
SCHEDULES = get_args(HINTS["schedule"])


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


# schedules


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


# groups and optimizers


def shapes(optim: Optim, task: ToyTask) -> dict[tuple[float, float], int]:
    groups = parameter_groups(
        task.named_parameters(), optim, no_decay=task.no_decay, depth=task.depth
    )
    return {(g["weight_decay"], round(g["lr"], 12)): len(g["params"]) for g in groups}


def test_decay_applies_to_matrices_only() -> None:
    assert shapes(Optim(lr=0.1, weight_decay=0.2), make_task()) == {(0.2, 0.1): 2, (0.0, 0.1): 2}


def test_network_names_what_does_not_decay() -> None:
    task = make_task()
    task.no_decay = lambda name: name == "net.last.weight"  # type: ignore[method-assign]
    assert shapes(Optim(lr=0.1, weight_decay=0.2), task) == {(0.2, 0.1): 1, (0.0, 0.1): 3}


def test_rate_falls_with_the_distance_from_the_output() -> None:
    found = shapes(Optim(lr=0.1, weight_decay=0.2, layer_decay=0.5), make_task())
    assert found == {(0.2, 0.05): 1, (0.0, 0.05): 1, (0.2, 0.1): 1, (0.0, 0.1): 1}


@given(st.lists(st.sampled_from(["net.first.*", "net.last.bias", "net.last.weight"]), unique=True))
def test_groups_are_the_trainable_parameters(frozen: list[str]) -> None:
    from sciml.core.optim import freeze

    task = make_task()
    freeze(task, frozen)
    for name in NAMES:
        optim = Optim(name=name, layer_decay=0.9)
        groups = parameter_groups(
            task.named_parameters(), optim, no_decay=task.no_decay, depth=task.depth
        )
        if not groups:
            continue
        grouped = [
            p for group in build_optimizer(groups, optim).param_groups for p in group["params"]
        ]
        assert len(grouped) == len({id(p) for p in grouped})
        assert {id(p) for p in grouped} == {id(p) for p in task.parameters() if p.requires_grad}


@pytest.mark.filterwarnings("ignore:.*in eval mode")
def test_frozen_modules_rest_in_evaluation_mode_and_keep_their_weights(tmp_path: Path) -> None:
    modes: set[tuple[bool, bool]] = set()

    class Look(Callback):
        def on_train_batch_start(self, trainer: Trainer, module: Any, *rest: Any) -> None:
            modes.add((module.net.first.training, module.net.last.training))

    task = make_task(Optim(lr=0.1, frozen=["net.first.*"]))
    before = task.net.first.weight.clone()
    make_trainer(tmp_path, Look()).fit(task, datamodule=ToyData())
    assert modes == {(False, True)}
    assert torch.equal(task.net.first.weight, before)


@pytest.mark.parametrize("frozen", [["net.frist.*"], ["*"]])
@pytest.mark.filterwarnings("ignore:.*in eval mode")
def test_frozen_patterns_have_to_make_sense(frozen: list[str], tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"fits no parameter; names look like net|optim.frozen must"
    ):
        make_trainer(tmp_path).fit(make_task(Optim(frozen=frozen)), datamodule=ToyData())


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_lowers_the_error(name: Any, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_epochs=-1, max_steps=60, check_val_every_n_epoch=5)
    trainer.validate(make_task(), datamodule=ToyData(), verbose=False)
    before = float(trainer.callback_metrics["val/mae"])
    trainer.fit(make_task(Optim(name=name, lr=0.05)), datamodule=ToyData())
    assert float(trainer.callback_metrics["val/mae"]) < 0.6 * before


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_trains(schedule: Any, tmp_path: Path) -> None:
    optim = Optim(lr=0.03, schedule=schedule, monitor="val/mae")
    trainer = make_trainer(
        tmp_path, LearningRateMonitor("step"), logger=CSVLogger(tmp_path), max_epochs=2
    )
    trainer.fit(make_task(optim), datamodule=ToyData())
    assert trainer.global_step == 8


def test_tasks_do_not_share_their_settings() -> None:
    first, second = ToyTask(ToyNet()), ToyTask(ToyNet())
    first.lr = 5.0
    assert second.lr == Optim(lr=0.01).lr


# settings typed at a resume

CHANGES = {
    "lr": ({"lr": 1e-5}, {"lr": 1e-5}),
    "cosine": ({"lr": 1e-5, "schedule": "cosine"}, {}),
    "weight_decay": ({"weight_decay": 0.5}, {"weight_decay": 0.5}),
    "betas": ({"betas": (0.5, 0.6)}, {"betas": (0.5, 0.6)}),
    "eps": ({"eps": 1e-3}, {"eps": 1e-3}),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", CHANGES)
def test_settings_typed_at_a_resume_win(name: Any, change: str, tmp_path: Path) -> None:
    typed, wanted = CHANGES[change]
    old = {"name": name, "lr": 1e-3, "weight_decay": 0.1}
    first = make_trainer(tmp_path, Keep(tmp_path / "kept"), max_epochs=1)
    first.fit(make_task(Optim(**old)), datamodule=ToyData())
    optim = Optim(**(old | typed))  # type: ignore[arg-type]
    trainer = make_trainer(tmp_path, max_epochs=2)
    trainer.fit(make_task(optim), datamodule=ToyData(), ckpt_path=tmp_path / "kept/002-batch.ckpt")
    groups = trainer.optimizers[0].param_groups
    for key, value in wanted.items():  # sgd knows no eps; vectors do not decay
        found = [group[key] for group in groups if group.get(key)]
        assert not found or value == pytest.approx(found[-1])
    if optim.schedule == "cosine":  # half of the run is over at step 4 of 8
        rate = read_rate(tmp_path, optim, 4)
        assert rate == pytest.approx(0.5e-5)


def read_rate(folder: Path, optim: Optim, step: int) -> float:
    trainer = make_trainer(folder, Keep(folder / "again"), max_epochs=2)
    path = folder / "kept/002-batch.ckpt"
    trainer.fit(make_task(optim), datamodule=ToyData(), ckpt_path=path)
    state = read(folder / f"again/{step:03d}-batch.ckpt")["optimizer_states"][0]
    part = state.get("parts", [state])[0]
    return float(part["param_groups"][0]["lr"])


def test_plateau_keeps_its_reductions_when_the_rate_is_changed(tmp_path: Path) -> None:
    settings = {"schedule": "plateau", "monitor": "val/mae", "patience": 0, "factor": 0.5}
    # a metric that cannot improve by the threshold: the rate is halved at every validation but one
    old = Optim(lr=1e-7, **settings)  # type: ignore[arg-type]
    first = make_trainer(tmp_path, Keep(tmp_path / "kept"), max_epochs=3)
    first.fit(make_task(old), datamodule=ToyData())
    path = tmp_path / "kept/012-epoch.ckpt"
    new = Optim(lr=1e-3, **(settings | {"patience": 9, "min_lr": 0.1}))  # type: ignore[arg-type]
    trainer = make_trainer(tmp_path, max_epochs=4)
    trainer.fit(make_task(new), datamodule=ToyData(), ckpt_path=path)
    reduced = read(path)["optimizer_states"][0]["param_groups"][0]["lr"] / old.lr
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 * reduced)
    schedule = trainer.lr_scheduler_configs[0].scheduler
    assert (schedule.patience, schedule.min_lrs) == (9, pytest.approx([1e-4, 1e-4]))


@pytest.mark.parametrize(
    "typed", [{"name": "sgd"}, {"frozen": ["net.first.*"]}, {"schedule": "plateau"}]
)
@pytest.mark.filterwarnings("ignore:.*in eval mode")
def test_what_cannot_change_at_a_resume_is_refused(typed: dict[str, Any], tmp_path: Path) -> None:
    first = make_trainer(tmp_path, Keep(tmp_path / "kept"), max_epochs=1)
    first.fit(make_task(), datamodule=ToyData())
    task = make_task(Optim(**({"lr": 0.01} | typed)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"optim.{next(iter(typed))} is .* --model.init_from"):
        make_trainer(tmp_path).fit(
            task, datamodule=ToyData(), ckpt_path=tmp_path / "kept/002-batch.ckpt"
        )


# Lightning's tuner


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
