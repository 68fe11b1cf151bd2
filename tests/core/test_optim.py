from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Callback, Trainer
from toy import Keep, ToyData, ToyNet, ToyTask, make_task, make_trainer

from sciml.core.checkpoint import read
from sciml.core.optim import Optim, build_optimizer, freeze, parameter_groups

NAMES = get_args(get_type_hints(Optim)["name"])


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
