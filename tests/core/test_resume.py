"""A run resumed from any of its checkpoints ends with the same bits as one never stopped."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from toy import (
    Keep,
    ToyData,
    ToyStream,
    Validations,
    differences,
    final_state,
    make_task,
    make_trainer,
)

from sciml.core.optim import Optim

COSINE = Optim(lr=0.01, schedule="cosine", warmup=3)
PLATEAU = Optim(lr=0.05, schedule="plateau", patience=0, factor=0.5, monitor="val/mae")


@dataclass
class Case:
    """One kind of run of three epochs with four batches each."""

    data: type[ToyData] = ToyData
    given: dict[str, Any] = field(default_factory=dict)
    optim: Optim = field(default_factory=lambda: COSINE)
    trainer: dict[str, Any] = field(default_factory=dict)


CASES = {
    "plain": Case(),
    "half_epochs": Case(trainer={"val_check_interval": 0.5}),
    "accumulated": Case(trainer={"accumulate_grad_batches": 2}),
    "by_steps": Case(trainer={"max_epochs": -1, "max_steps": 10}),
    "by_steps_over_epochs": Case(
        trainer={"max_steps": 9, "val_check_interval": 3, "check_val_every_n_epoch": None}
    ),
    "every_second_epoch": Case(trainer={"check_val_every_n_epoch": 2}),
    "no_validation": Case(trainer={"limit_val_batches": 0}),
    "clipped": Case(trainer={"gradient_clip_val": 0.1}),
    "sized": Case(given={"sized": True, "size": 20}),
    "passes": Case(given={"samples_per_epoch": 9}),
    "stream": Case(data=ToyStream),
    "stream_by_steps": Case(data=ToyStream, trainer={"max_epochs": -1, "max_steps": 10}),
    "plateau": Case(optim=PLATEAU),
    "muon": Case(optim=Optim(name="muon", lr=0.01, schedule="onecycle")),
    "amsgrad": Case(optim=Optim(name="amsgrad", lr=0.01, schedule="exponential", layer_decay=0.5)),
    "sgd": Case(optim=Optim(name="sgd", lr=0.01)),
}


def fit(
    folder: Path, case: Case, *callbacks: Callback, ckpt_path: Path | None = None, **trainer: Any
) -> tuple[Trainer, dict[int, float]]:
    """A finished run and what its validations found, by step."""
    history = Validations()
    runner = make_trainer(folder, history, *callbacks, **(case.trainer | trainer))
    runner.fit(make_task(case.optim), datamodule=case.data(**case.given), ckpt_path=ckpt_path)
    return runner, history.found


def check_resume(
    path: Path, case: Case, expected: dict[str, Any], history: dict[int, float]
) -> None:
    """Resume one checkpoint and compare the end and all validations that had not been done."""
    resumed, again = fit(path.parent / "resumed", case, ckpt_path=path)
    assert not differences(final_state(resumed), expected), path.name
    step, hook = path.stem.split("-")
    over = int(step) == case.trainer.get("max_steps")  # a run that is over stays over
    first = int(step) if hook == "batch" and not over else int(step) + 1
    assert again == {k: v for k, v in history.items() if k >= first}, path.name


@pytest.mark.parametrize("name", CASES)
def test_every_checkpoint_resumes_to_the_same_bits(name: str, tmp_path: Path) -> None:
    trainer, history = fit(tmp_path, CASES[name], Keep(tmp_path / "kept"))
    expected = final_state(trainer)
    checkpoints = sorted((tmp_path / "kept").glob("*.ckpt"))
    assert len(checkpoints) >= 6
    for path in checkpoints:
        check_resume(path, CASES[name], expected, history)


@pytest.mark.parametrize("data", [ToyData, ToyStream])
def test_resume_with_another_number_of_workers(data: type[ToyData], tmp_path: Path) -> None:
    trainer, history = fit(tmp_path, Case(data, {"num_workers": 2}), Keep(tmp_path / "kept"))
    expected = final_state(trainer)
    for name, workers in (("002-batch", 2), ("004-epoch", 2), ("005-batch", 0)):
        case = Case(data, {"num_workers": workers})
        check_resume(tmp_path / f"kept/{name}.ckpt", case, expected, history)


@pytest.mark.parametrize("data", [ToyData, ToyStream])
def test_resume_of_a_resume_in_the_same_epoch(data: type[ToyData], tmp_path: Path) -> None:
    case = Case(data)
    trainer, history = fit(tmp_path, case, Keep(tmp_path / "once"))
    expected = final_state(trainer)
    fit(tmp_path, case, Keep(tmp_path / "twice"), ckpt_path=tmp_path / "once/005-batch.ckpt")
    fit(tmp_path, case, Keep(tmp_path / "thrice"), ckpt_path=tmp_path / "twice/006-batch.ckpt")
    check_resume(tmp_path / "thrice/007-batch.ckpt", case, expected, history)


def test_prolonged_run_equals_one_that_was_as_long_from_the_start(tmp_path: Path) -> None:
    case = Case(optim=Optim(lr=0.01), trainer={"max_epochs": -1})
    short, _ = fit(tmp_path, case, max_steps=6)
    short.save_checkpoint(tmp_path / "short.ckpt")
    prolonged, _ = fit(tmp_path, case, max_steps=10, ckpt_path=tmp_path / "short.ckpt")
    whole, _ = fit(tmp_path, case, max_steps=10)
    assert not differences(final_state(prolonged), final_state(whole))


class Fail(Callback):
    """Break down in a hook at a step; in validation at the second batch."""

    def __init__(self, hook: str, step: int) -> None:
        self.hook = hook
        self.step = step

    def _fail(self, trainer: Trainer, hook: str, ready: bool = True) -> None:
        if (hook, trainer.global_step) == (self.hook, self.step) and ready:
            raise RuntimeError("as asked")

    def on_train_batch_start(self, trainer: Trainer, *rest: Any) -> None:
        self._fail(trainer, "train", not trainer.sanity_checking)

    def on_validation_batch_start(
        self, trainer: Trainer, module: Any, batch: Any, index: int, loader: int = 0
    ) -> None:
        self._fail(trainer, "validation", index == 1 and not trainer.sanity_checking)

    def on_validation_epoch_end(self, trainer: Trainer, *rest: Any) -> None:
        self._fail(trainer, "figures", not trainer.sanity_checking)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning")
@pytest.mark.parametrize(
    ("hook", "step"), [("train", 0), ("train", 6), ("validation", 8), ("figures", 8)]
)
@pytest.mark.parametrize("data", [ToyData, ToyStream])
@pytest.mark.parametrize("optim", [COSINE, PLATEAU], ids=lambda optim: optim.schedule)
def test_exception_costs_nothing(
    hook: str, step: int, data: type[ToyData], optim: Optim, tmp_path: Path
) -> None:
    case = Case(data, optim=optim)
    trainer, history = fit(tmp_path, case)
    expected = final_state(trainer)
    rescue = ModelCheckpoint(
        tmp_path / "rescue", "rescued", save_on_exception=True, save_last=True, every_n_epochs=99
    )
    rescue._last_global_step_saved = -1  # saves at step 0, too
    with pytest.raises(RuntimeError, match="as asked"):
        fit(tmp_path, case, Fail(hook, step), rescue)
    path = tmp_path / f"{step:03d}-{'train' if hook == 'train' else 'batch'}.ckpt"
    (tmp_path / "rescue/last.ckpt").rename(path)
    check_resume(path, case, expected, history)


class FailAt(Callback):
    """Break down at a batch of an epoch."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.place = epoch, batch

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        if (trainer.current_epoch, index) == self.place:
            raise RuntimeError("as asked")


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning")
@pytest.mark.parametrize("batch", range(5))
def test_exception_while_gradients_are_accumulated_costs_nothing(
    batch: int, tmp_path: Path
) -> None:
    # five batches make three steps; the checkpoint has the weights of the last whole step
    case = Case(given={"size": 18}, trainer={"accumulate_grad_batches": 2})
    trainer, history = fit(tmp_path, case)
    expected = final_state(trainer)
    rescue = ModelCheckpoint(tmp_path / "rescue", "rescued", save_on_exception=True)
    with pytest.raises(RuntimeError, match="as asked"):
        fit(tmp_path, case, FailAt(1, batch), rescue)
    resumed, again = fit(tmp_path / "on", case, ckpt_path=tmp_path / "rescue/rescued.ckpt")
    wrong = differences(final_state(resumed), expected)
    # the network sees a batch again and counts that; at step 3 the end of the epoch was saved
    assert wrong == (["/state_dict/net.calls"] if batch == 3 else [])
    assert again == {k: v for k, v in history.items() if k > 3}


@pytest.mark.filterwarnings("ignore:Checkpoint directory:UserWarning")
@pytest.mark.parametrize("at_epoch_end", [True, False])
def test_best_checkpoint_and_early_stop_are_those_of_the_whole_run(
    at_epoch_end: bool, tmp_path: Path
) -> None:
    case = Case(optim=Optim(lr=0.05), trainer={"max_epochs": 10})

    def run(*more: Callback, ckpt_path: Path | None = None) -> tuple[Any, ...]:
        best = ModelCheckpoint(
            tmp_path / "best",
            monitor="val/mae",
            save_on_train_epoch_end=at_epoch_end,
            enable_version_counter=False,
        )
        stop = EarlyStopping("val/mae", patience=2)
        trainer, history = fit(tmp_path, case, best, stop, *more, ckpt_path=ckpt_path)
        score = None if best.best_model_score is None else float(best.best_model_score)
        name = Path(best.best_model_path).name
        return score, name, stop.stopped_epoch, trainer.global_step, history

    score, name, epoch, steps, history = run(Keep(tmp_path / "kept"))
    assert 4 < epoch < 9, "the run has to be stopped early for this test"
    assert score == min(history.values())
    for path in sorted((tmp_path / "kept").glob("0[12][05679]-*.ckpt")):
        assert run(ckpt_path=path)[:-1] == (score, name, epoch, steps), path.name


def test_checkpoint_holds_the_metrics_it_was_written_with(tmp_path: Path) -> None:
    from sciml.core.checkpoint import read

    _, history = fit(tmp_path, Case(), Keep(tmp_path / "kept"))
    for step in (4, 8, 12):
        stored = read(tmp_path / f"kept/{step:03d}-validation.ckpt")["metrics"]["val/mae"]
        assert float(stored) == history[step]
