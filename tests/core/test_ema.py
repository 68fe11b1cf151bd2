from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from toy import Keep, ToyData, ToyNet, ToyTask, differences, make_task, make_trainer

from sciml.core.checkpoint import read
from sciml.core.ema import EMA
from sciml.core.optim import Optim


class Watch(Callback):
    """Remember the weights after every step, and those in place at the end of validations."""

    def __init__(self) -> None:
        self.raw: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, *rest: Any) -> None:
        self.raw.append(weights(module))

    def on_validation_epoch_end(self, trainer: Trainer, module: Any) -> None:
        self.validated.append(weights(module))


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def fit(folder: Path, *callbacks: Callback, **trainer: Any) -> tuple[Trainer, ToyTask]:
    task = make_task()
    runner = make_trainer(folder, *callbacks, **trainer)
    runner.fit(task, datamodule=ToyData())
    return runner, task


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert not differences(left, right)


def slow_average(
    first: dict[str, Tensor], raw: list[dict[str, Tensor]], decay: float, every: int
) -> dict[str, Tensor]:
    """The definition, in double precision, one number after the other."""
    average = {name: value.double() for name, value in first.items()}
    for update, later in enumerate(raw[every - 1 :: every], start=1):
        keep = min(decay, update / (update + 9))
        for name in average:
            average[name] = keep * average[name] + (1 - keep) * later[name].double()
    return average


@pytest.mark.parametrize(("decay", "every"), [(0.3, 1), (0.999, 1), (0.999, 3)])
def test_average_follows_its_definition(decay: float, every: int, tmp_path: Path) -> None:
    watch = Watch()
    _, task = fit(tmp_path, EMA(decay, every), watch)
    expected = slow_average(weights(make_task()), watch.raw, decay, every)
    for name, value in weights(task).items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-6, atol=1e-7)


def test_buffers_stay_the_live_ones_over_many_steps(tmp_path: Path) -> None:
    trainer, task = fit(tmp_path, EMA(0.9999), max_epochs=-1, max_steps=1000, limit_val_batches=0)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    stored = read(tmp_path / "end.ckpt")["state_dict"]
    fresh = ToyNet().state_dict()
    for name in ("index", "even"):
        assert torch.equal(stored[f"net.{name}"], fresh[name])
        assert torch.equal(task.net.get_buffer(name), fresh[name])
    assert int(stored["net.calls"]) == int(task.net.calls) == 1000


def test_checkpoint_is_the_same_whichever_weights_are_in_place(tmp_path: Path) -> None:
    watch = Watch()
    fit(tmp_path, watch, Keep(tmp_path / "kept"))
    training, validating = (
        read(tmp_path / f"kept/008-{hook}.ckpt") for hook in ("batch", "validation")
    )
    for key in ("state_dict", "raw_state", "ema"):
        assert not differences(training[key], validating[key]), key
    assert_same(training["raw_state"], watch.raw[7])
    assert_same({name: training["state_dict"][name] for name in watch.raw[7]}, watch.validated[2])
    assert_same(training["ema"]["average"], watch.validated[2])


class SaveInside(Callback):
    """Save in the middle of a validation."""

    def on_validation_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        if not trainer.sanity_checking:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "inside.ckpt")


def test_checkpoint_written_inside_a_validation_holds_both_weights(tmp_path: Path) -> None:
    watch = Watch()
    fit(tmp_path, watch, SaveInside())
    inside = read(tmp_path / "inside.ckpt")
    assert_same(inside["raw_state"], watch.raw[-1])
    assert_same({name: inside["state_dict"][name] for name in watch.raw[-1]}, watch.validated[-1])


def test_sanity_check_sees_the_first_weights_and_training_the_raw_ones(tmp_path: Path) -> None:
    watch = Watch()
    fit(tmp_path, EMA(0.9), watch, max_epochs=2)
    assert_same(watch.validated[0], weights(make_task()))
    plain = Watch()
    fit(tmp_path, EMA(0), plain, max_epochs=2)
    assert not differences(watch.raw, plain.raw)


def test_average_stays_in_place_for_a_test_and_a_second_fit_goes_on_raw(tmp_path: Path) -> None:
    watch = Watch()
    trainer, task = fit(tmp_path, EMA(0.9), watch, max_epochs=1)
    assert_same(weights(task), watch.validated[-1])
    trainer.test(task, datamodule=ToyData(), verbose=False)
    assert_same(weights(task), watch.validated[-1])
    assert differences(weights(task), watch.raw[-1])

    last = watch.raw[-1]
    trainer.fit_loop.max_epochs = 2
    trainer.fit(task, datamodule=ToyData())
    assert_same(watch.validated[-2], last)  # the sanity check of the second fit
    expected = slow_average(last, watch.raw[4:], 0.9, 1)
    for name, value in weights(task).items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-6, atol=1e-7)


def test_weights_of_one_task_never_reach_another(tmp_path: Path) -> None:
    trainer, first = fit(tmp_path, EMA(0.9), max_epochs=1)
    averaged = weights(first)
    torch.manual_seed(1)
    second = ToyTask(ToyNet())
    start, watch = weights(second), Watch()
    trainer.callbacks.insert(0, watch)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(second, datamodule=ToyData())
    assert_same(watch.validated[0], start)
    assert_same(weights(first), averaged)


class Broken(Callback):
    def on_validation_epoch_end(self, trainer: Trainer, *rest: Any) -> None:
        if trainer.global_step == 8:
            raise KeyError("figure")


def test_exception_in_validation_brings_the_raw_weights_back(tmp_path: Path) -> None:
    watch, task = Watch(), make_task()
    trainer = make_trainer(tmp_path, watch, Broken())
    with pytest.raises(KeyError):
        trainer.fit(task, datamodule=ToyData())
    assert_same(weights(task), watch.raw[7])


def test_without_average_nothing_is_kept(tmp_path: Path) -> None:
    watch = Watch()
    trainer, _ = fit(tmp_path, EMA(0), watch)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    stored = read(tmp_path / "end.ckpt")
    assert not {"ema", "raw_state"} & stored.keys()
    assert_same(watch.validated[-1], watch.raw[-1])


@pytest.mark.parametrize(("before", "after"), [(0, 0.9), (0.9, 0)])
def test_average_can_be_switched_at_a_resume(before: float, after: float, tmp_path: Path) -> None:
    first = Watch()
    fit(tmp_path, EMA(before), first, Keep(tmp_path / "kept"), max_epochs=1)
    task, second = make_task(), Watch()
    trainer = make_trainer(tmp_path, EMA(after), second)
    trainer.fit(task, datamodule=ToyData(), ckpt_path=tmp_path / "kept/004-validation.ckpt")
    whole = Watch()
    fit(tmp_path, EMA(0), whole)
    assert_same(first.raw + second.raw, whole.raw)  # training never depends on the average
    if after:
        expected = slow_average(first.raw[-1], second.raw, after, 1)
        for name, value in weights(task).items():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-6, atol=1e-7)
    else:
        assert_same(weights(task), second.raw[-1])


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_coarse_weights_are_refused(precision: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rounds the averaged weights away.*--ema.decay 0"):
        fit(tmp_path, precision=precision)


def test_average_of_mixed_precision_is_single(tmp_path: Path) -> None:
    ema = EMA(0.9)
    fit(tmp_path, ema, precision="bf16-mixed", max_epochs=1)
    assert {value.dtype for value in ema.average.values()} == {torch.float32}


def test_fine_tuning_starts_a_new_average(tmp_path: Path) -> None:
    _, first = fit(tmp_path, Keep(tmp_path / "kept"), max_epochs=1)
    ema = EMA(0.9)
    path = str(tmp_path / "kept/004-validation.ckpt")
    torch.manual_seed(1)
    second, watch = ToyTask(ToyNet(), Optim(lr=0.0), init_from=path), Watch()
    make_trainer(tmp_path, ema, watch, max_epochs=1).fit(second, datamodule=ToyData())
    assert ema.updates == 4
    assert_same(watch.raw[-1], weights(first))  # the average of the first run, as the rate is 0


def test_weights_alone_are_the_average(tmp_path: Path) -> None:
    slim = ModelCheckpoint(tmp_path / "slim", "slim", save_weights_only=True)
    _, task = fit(tmp_path, slim)
    stored = read(tmp_path / "slim/slim.ckpt")
    assert not {"ema", "raw_state", "optimizer_states"} & stored.keys()
    assert_same({name: stored["state_dict"][name] for name in weights(task)}, weights(task))


class TiedTask(ToyTask):
    """A toy whose first layer has a second name."""

    def __init__(self, net: ToyNet, optim: Optim) -> None:
        super().__init__(net, optim)
        self.twin = net.first


def test_tied_weights_are_averaged_under_every_name(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, Keep(tmp_path / "kept"), max_epochs=1)
    trainer.fit(make_task(make=TiedTask), datamodule=ToyData())
    stored = read(tmp_path / "kept/004-batch.ckpt")["state_dict"]
    assert torch.equal(stored["net.first.weight"], stored["twin.weight"])


def test_frozen_weights_are_not_averaged(tmp_path: Path) -> None:
    ema, task = EMA(0.9), make_task(Optim(frozen=["net.last.*"]))
    trainer = make_trainer(tmp_path, ema)
    with pytest.warns(UserWarning, match="in eval mode"):
        trainer.fit(task, datamodule=ToyData())
    assert set(ema.average) == {"net.first.weight", "net.first.bias"}


@pytest.mark.parametrize(("decay", "every"), [(1.0, 1), (-0.1, 1), (0.9, 0)])
def test_impossible_settings_are_refused(decay: float, every: int) -> None:
    with pytest.raises(ValueError, match=r"ema\.(decay|every_n_steps) is"):
        EMA(decay, every)
