import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from toy import ToyData, Validations, differences, final_state, make_task, make_trainer

from sciml.core.optim import Optim
from sciml.core.requeue import Requeue

PLATEAU = Optim(lr=0.05, schedule="plateau", patience=0, factor=0.5, monitor="val/mae")
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory:UserWarning")


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SLURM"):
            monkeypatch.delenv(name)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """File with a line for every call of a stand-in for ``scontrol``, in job 815."""
    log = tmp_path / "calls"
    program = tmp_path / "bin/scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "815")
    return log


class Announce(Callback):
    """Send the signal from inside a hook, once, at a step (and a batch of a validation)."""

    def __init__(self, hook: str, step: int, batch: int = 0) -> None:
        self.when: Any = (hook, step, batch)

    def _at(self, hook: str, trainer: Trainer, batch: int = 0) -> None:
        if self.when == (hook, trainer.global_step, batch):
            self.when = None
            os.kill(os.getpid(), signal.SIGUSR1)

    def on_train_batch_start(self, trainer: Trainer, *rest: Any) -> None:
        self._at("train", trainer)

    def on_validation_batch_start(
        self, trainer: Trainer, module: Any, batch: Any, index: int, loader: int = 0
    ) -> None:
        self._at("sanity" if trainer.sanity_checking else "validation", trainer, index)

    def on_train_epoch_end(self, trainer: Trainer, *rest: Any) -> None:
        self._at("epoch", trainer)


def run(folder: Path, *callbacks: Callback, **settings: Any) -> dict[str, Any]:
    """A run, or its continuation, and what it comes to."""
    history, stop = Validations(), EarlyStopping("val/mae", patience=9)
    best = ModelCheckpoint(folder / "checkpoints", "best", monitor="val/mae", save_last=True)
    trainer = make_trainer(folder, history, stop, best, *callbacks, **settings)
    path: Any = "last" if (folder / "checkpoints/last.ckpt").exists() else None
    try:
        trainer.fit(make_task(PLATEAU), datamodule=ToyData(), ckpt_path=path)
    except SystemExit as leaving:
        return {"code": leaving.code, "step": trainer.global_step, "history": history.found}
    assert {file.name for file in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    return {
        "state": final_state(trainer),
        "best": float(best.best_model_score or -1),
        "waited": stop.wait_count,
        "history": history.found,
    }


PLACES = {
    "train": ("train", 5, 0),
    "last_batch": ("train", 7, 0),
    "validation": ("validation", 8, 2),
    "sanity": ("sanity", 0, 1),
    "epoch_end": ("epoch", 4, 0),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("interval", [1.0, 0.5, 0.25])
def test_requeued_run_ends_as_if_nothing_had_happened(
    place: str, interval: float, tmp_path: Path, calls: Path
) -> None:
    settings = {"val_check_interval": interval}
    whole = run(tmp_path / "whole", **settings)
    left = run(tmp_path / "left", Announce(*PLACES[place]), **settings)
    assert (left["code"], left["step"]) == (0, PLACES[place][1] + 1)
    assert calls.read_text() == "requeue 815\n"
    again = run(tmp_path / "left", **settings)
    assert again["history"] == {k: v for k, v in whole["history"].items() if k >= left["step"]}
    assert left["history"] | again["history"] == whole["history"]
    for key in ("best", "waited"):
        assert again[key] == whole[key], key
    assert not differences(again["state"], whole["state"])
    assert calls.read_text() == "requeue 815\n"


def test_job_is_left_with_whole_steps_only(tmp_path: Path, calls: Path) -> None:
    settings = {"accumulate_grad_batches": 2}
    whole = run(tmp_path / "whole", **settings)
    left = run(tmp_path / "left", Announce("train", 2), **settings)
    assert left["step"] == 3  # two batches later
    again = run(tmp_path / "left", **settings)
    assert not differences(again["state"], whole["state"])


def test_a_run_may_be_requeued_often(tmp_path: Path, calls: Path) -> None:
    whole = run(tmp_path / "whole")
    for step in range(11):
        assert run(tmp_path / "left", Announce("train", step))["step"] == step + 1
    assert not differences(run(tmp_path / "left")["state"], whole["state"])
    assert len(calls.read_text().splitlines()) == 11


def test_run_that_is_over_is_not_requeued(tmp_path: Path, calls: Path) -> None:
    ended = run(tmp_path, Announce("train", 5), max_epochs=-1, max_steps=6)
    assert "state" in ended
    assert not calls.exists()


def test_array_jobs_are_requeued_by_task(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "812")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert run(tmp_path, Announce("train", 1))["code"] == 0
    assert calls.read_text() == "requeue 812_3\n"


def test_without_a_job_the_run_is_saved_and_left(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID")
    assert run(tmp_path, Announce("train", 1))["code"] == 0
    assert (tmp_path / "checkpoints/last.ckpt").exists()
    assert not calls.exists()


@pytest.mark.parametrize("program", ["#!/bin/sh\necho 'Invalid job id' >&2\nexit 1\n", None])
def test_refused_requeue_is_one_sentence_and_the_run_is_saved(
    program: str | None, tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if program is None:
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        (tmp_path / "bin/scontrol").write_text(program)
    reason = "there is no such command" if program is None else "Invalid job id"
    with pytest.raises(OSError, match=rf"requeue 815 failed \({reason}\); the run is saved"):
        run(tmp_path, Announce("train", 1))
    assert (tmp_path / "checkpoints/last.ckpt").exists()


def test_loggers_have_everything_when_the_job_is_left(tmp_path: Path, calls: Path) -> None:
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=1000)
    run(tmp_path, Announce("train", 5), logger=logger, log_every_n_steps=1)
    lines = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    assert len(lines) > 5


def test_handler_is_there_during_a_fit_only(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    assert before == signal.SIG_DFL
    inside: list[Any] = []

    class Look(Callback):
        error: Exception | None = None

        def on_train_batch_end(self, *given: Any) -> None:
            inside.append(signal.getsignal(signal.SIGUSR1))
            if self.error is not None:
                raise self.error

    make_trainer(tmp_path, Look()).fit(make_task(), datamodule=ToyData())
    assert signal.getsignal(signal.SIGUSR1) == before
    Look.error = KeyError("x")
    with pytest.raises(KeyError):
        make_trainer(tmp_path, Look()).fit(make_task(), datamodule=ToyData())
    assert signal.getsignal(signal.SIGUSR1) == before
    assert before not in inside


def test_fit_in_a_thread_does_without_signals(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    given = {"datamodule": ToyData()}
    worker = threading.Thread(target=trainer.fit, args=(make_task(),), kwargs=given)
    worker.start()
    worker.join()
    assert trainer.global_step == 12


def test_another_signal_may_be_chosen(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"requeue.signal_name 'SIGFOO' is no signal; try"):
        Requeue("SIGFOO")

    class Other(Announce):
        def _at(self, hook: str, trainer: Trainer, batch: int = 0) -> None:
            if (hook, trainer.global_step) == ("train", 2):
                os.kill(os.getpid(), signal.SIGUSR2)

    assert run(tmp_path, Other("", 0), Requeue("SIGUSR2"))["step"] == 3


SCRIPT = """
import sys
from pathlib import Path
from toy import Keep, ToyData, make_task, make_trainer

folder = Path(sys.argv[1])
trainer = make_trainer(folder, Keep(folder), max_epochs=-1, limit_val_batches=0)
trainer.fit(make_task(), datamodule=ToyData())
"""


@pytest.mark.slow
def test_process_that_gets_the_signal_ends_well(tmp_path: Path, calls: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    words = [sys.executable, "-c", SCRIPT, str(tmp_path / "run")]
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    for _ in range(1200):  # until training has begun
        if list((tmp_path / "run").glob("*.ckpt")) or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert (tmp_path / "run/checkpoints/last.ckpt").exists()
    assert calls.read_text() == "requeue 815\n"
