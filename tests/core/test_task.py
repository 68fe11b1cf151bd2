from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from matplotlib import pyplot as plt
from torch import Tensor
from toy import Keep, ToyData, ToyNet, ToyTask, differences, final_state, make_task, make_trainer

from sciml.core.checkpoint import read
from sciml.core.optim import Optim
from sciml.core.task import SKIPS_IN_A_ROW, full_precision


class Steps(Callback):
    """Remember weights, optimizer state and the skipped steps after every batch."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Tensor]] = []
        self.states: list[Any] = []
        self.skipped: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, *rest: Any) -> None:
        self.weights.append({n: p.detach().clone() for n, p in module.named_parameters()})
        states = trainer.optimizers[0].state.values()
        self.states.append([{name: value.clone() for name, value in s.items()} for s in states])
        if "train/skipped" in trainer.callback_metrics:
            self.skipped.append(float(trainer.callback_metrics["train/skipped"]))


class PoisonedTask(ToyTask):
    """The loss, or a gradient alone, is not finite at some steps."""

    bad_loss: frozenset[int] | set[int] = frozenset()
    bad_gradient: frozenset[int] | set[int] = frozenset()

    def training_step(self, batch: Any, index: int) -> Tensor:
        loss = super().training_step(batch, index)
        return loss * torch.inf if self.global_step in self.bad_loss else loss

    def on_after_backward(self) -> None:
        if self.global_step in self.bad_gradient:
            gradient = self.net.last.bias.grad
            assert gradient is not None
            gradient.fill_(torch.nan)


def poisoned(loss: set[int], gradient: set[int], optim: Optim) -> PoisonedTask:
    task = make_task(optim, make=PoisonedTask)
    assert isinstance(task, PoisonedTask)
    task.bad_loss, task.bad_gradient = loss, gradient
    return task


@pytest.mark.parametrize("name", ["adam", "adamw", "amsgrad", "sgd", "muon"])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_step_that_is_not_finite_is_skipped(name: Any, clip: float | None, tmp_path: Path) -> None:
    steps = Steps()
    task = poisoned({2, 5}, {6}, Optim(name=name, lr=0.01))
    trainer = make_trainer(tmp_path, steps, max_epochs=2, gradient_clip_val=clip)
    trainer.fit(task, datamodule=ToyData())
    for step in range(1, 8):
        still = not differences(steps.weights[step], steps.weights[step - 1])
        assert still == (step in {2, 5, 6})
        if still:
            assert not differences(steps.states[step], steps.states[step - 1])
    assert steps.skipped == [0, 0, 1, 1, 1, 2, 3, 3]


def test_labels_that_are_not_finite_are_skipped(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_epochs=2)
    task = make_task()
    trainer.fit(task, datamodule=ToyData(batch_size=1, poison=11))
    assert task.skipped == 2 * 3  # samples 11, 12 and 13, a batch each
    assert all(torch.isfinite(p).all() for p in task.parameters())


def test_accumulated_step_is_skipped_when_any_part_is_not_finite(tmp_path: Path) -> None:
    steps = Steps()
    trainer = make_trainer(tmp_path, steps, max_epochs=2, accumulate_grad_batches=2)
    trainer.fit(poisoned({1}, set(), Optim(lr=0.01)), datamodule=ToyData())
    assert not differences(steps.weights[3], steps.weights[1])
    assert differences(steps.weights[5], steps.weights[3])


def test_training_stops_after_many_in_a_row_and_names_the_samples(tmp_path: Path) -> None:
    task = make_task()
    trainer = make_trainer(tmp_path, max_epochs=9)
    with pytest.raises(
        ValueError, match=r"20 training steps in a row .* samples of the last batch"
    ):
        trainer.fit(task, datamodule=ToyData(batch_size=3, poison=0))
    assert trainer.global_step == SKIPS_IN_A_ROW - 1
    with pytest.raises(ValueError, match=r"on this rank: (\d+, ){2}\d+\. Check these labels"):
        make_trainer(tmp_path, max_epochs=9).fit(
            make_task(), datamodule=ToyData(batch_size=3, size=60, poison=0)
        )


def test_a_finite_step_in_between_lets_training_go_on(tmp_path: Path) -> None:
    bad = set(range(60)) - {19, 39}
    trainer = make_trainer(tmp_path, max_epochs=12)
    trainer.fit(poisoned(bad - {58, 59}, set(), Optim(lr=0.01)), datamodule=ToyData())
    assert trainer.global_step == 48


def test_count_of_skipped_steps_survives_a_resume(tmp_path: Path) -> None:
    def run(ckpt_path: Path | None = None) -> list[float]:
        steps = Steps()
        trainer = make_trainer(tmp_path, steps, Keep(tmp_path / "kept"))
        task = poisoned({2, 9}, set(), Optim(lr=0.01))
        trainer.fit(task, datamodule=ToyData(), ckpt_path=ckpt_path)
        return steps.skipped

    whole = run()
    assert run(tmp_path / "kept/006-batch.ckpt") == whole[6:]


# starting from other weights


def test_init_from_starts_at_the_averaged_weights(trained: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    task = ToyTask(ToyNet(), Optim(lr=0.0), init_from=str(trained))
    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(task, datamodule=ToyData())
    stored = read(trained)["state_dict"]
    for name, value in task.named_parameters():
        assert torch.equal(value, stored[name])


def test_init_from_is_for_the_first_fit_only(trained: Path, tmp_path: Path) -> None:
    task = ToyTask(ToyNet(), Optim(lr=0.05), init_from=str(trained))
    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(task, datamodule=ToyData())
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    first = read(tmp_path / "first.ckpt")["raw_state"]
    trained.unlink()
    steps = Steps()
    second = make_trainer(tmp_path, steps, max_epochs=2)
    second.fit(task, datamodule=ToyData(), ckpt_path=tmp_path / "first.ckpt")
    assert len(steps.weights) == 4
    assert differences(steps.weights[0], first)


def test_missing_init_from_is_one_sentence(tmp_path: Path) -> None:
    task = ToyTask(ToyNet(), init_from=str(tmp_path / "gone.ckpt"))
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*gone.ckpt"):
        make_trainer(tmp_path).fit(task, datamodule=ToyData())


class StatisticalData(ToyData):
    """Data that gives the task a statistic."""

    value = 5

    def statistics(self) -> int:
        return self.value


class StatisticalTask(ToyTask):
    """A task with one buffer of the data and one that belongs to the weights."""

    def __init__(self, net: ToyNet, optim: Optim = Optim(), init_from: str | None = None) -> None:
        super().__init__(net, optim, init_from)
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("scale", torch.zeros(()))

    def use_statistics(self, statistics: int) -> None:
        self.get_buffer("shift").fill_(statistics)
        self.get_buffer("scale").fill_(statistics)

    def statistics_to_keep(self) -> tuple[str, ...]:
        return ("shift",)


def test_statistics_come_from_the_data_then_the_weights_then_the_checkpoint(tmp_path: Path) -> None:
    def run(task: ToyTask, value: int, **given: Any) -> list[float]:
        data = StatisticalData()
        data.value = value
        trainer = make_trainer(tmp_path, Keep(tmp_path / "kept"), max_epochs=1)
        trainer.fit(task, datamodule=data, **given)
        return [float(task.get_buffer(name)) for name in ("shift", "scale")]

    assert run(StatisticalTask(ToyNet()), 5) == [5, 5]
    path = tmp_path / "kept/002-batch.ckpt"
    assert run(StatisticalTask(ToyNet()), 6, ckpt_path=path) == [5, 5]
    assert run(StatisticalTask(ToyNet(), init_from=str(path)), 7) == [7, 5]


# modes, precision, compilation, figures


def test_fit_begins_in_training_mode(tmp_path: Path) -> None:
    plain = make_trainer(tmp_path)
    plain.fit(make_task(), datamodule=ToyData())
    resting = make_trainer(tmp_path)
    resting.fit(make_task().eval(), datamodule=ToyData())
    assert not differences(final_state(resting), final_state(plain))


def test_block_keeps_full_precision_under_autocast() -> None:
    x = torch.ones(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with full_precision("cpu"):
            assert (x @ x).dtype == torch.float32
        with full_precision(torch.device("cpu")):
            assert (x.double() @ x.double()).dtype == torch.float64


def test_layer_decay_needs_a_task_that_orders_its_layers() -> None:
    with pytest.raises(ValueError, match="ToyTask does not order its layers"):
        super(ToyTask, make_task()).depth("net.first.weight")


class DrawingTask(ToyTask):
    """Draws an empty figure when one is due."""

    def on_validation_epoch_end(self) -> None:
        if self.draws_figures():
            self.log_figure("val/empty", plt.figure())


@pytest.mark.parametrize(
    ("every", "between", "drawn"),
    [(0, 1, []), (1, 1, [0, 1, 2, 3]), (2, 1, [0, 2]), (2, 2, [1, 3]), (3, 2, [1, 3])],
)
def test_figures_are_drawn_in_their_epochs_and_closed(
    every: int, between: int, drawn: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[int] = []
    task = make_task(make=DrawingTask)
    task.figure_every_n_epochs = every
    log = task.log_figure
    monkeypatch.setattr(
        task, "log_figure", lambda *given: (epochs.append(task.current_epoch), log(*given))
    )
    more = {"max_epochs": 4, "check_val_every_n_epoch": between}
    make_trainer(tmp_path, logger=CSVLogger(tmp_path), **more).fit(task, datamodule=ToyData())
    assert epochs == drawn
    assert not plt.get_fignums()


def test_compiling_in_place_keeps_parameter_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(ToyNet, "compile", lambda self: compiled.append(self))
    task = make_task()
    task.compile_network = True
    make_trainer(tmp_path, max_epochs=1).fit(task, datamodule=ToyData())
    assert compiled == [task.net]
    assert "net.first.weight" in task.state_dict()


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_other_precisions_train(precision: Any, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, precision=precision, max_epochs=1)
    trainer.fit(make_task(), datamodule=ToyData())
    assert torch.isfinite(trainer.callback_metrics["val/mae"])
