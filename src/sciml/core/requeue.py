"""Leave a SLURM job in good order when its time runs out, and queue it again."""

import os
import signal
import subprocess
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import STEP_OUTPUT


class Requeue(Callback):
    """Save, requeue the job and exit when a signal announces the end of its time.

    The signal only sets a flag. After the next optimizer step all ranks agree, write
    ``checkpoints/last.ckpt``, the first rank calls ``scontrol requeue``, and all leave with exit
    code 0. The requeued job has the same number, hence the same folder, and ``ckpt_path: last``
    continues there; a validation that was due is made up for. Outside SLURM the run is saved and
    left just the same. The announced time has to be longer than one step, and one validation.

    Args:
        signal_name: Signal that SLURM sends (``--signal=SIGUSR1@120``).
    """

    def __init__(self, signal_name: str = "SIGUSR1") -> None:
        if signal_name not in signal.Signals.__members__:
            raise ValueError(f"requeue.signal_name '{signal_name}' is no signal; try SIGUSR1")
        self.signal_name = signal_name
        self.asked = False
        self._step = 0
        self._previous: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # the job is left only after every other callback has seen the batch; a new list, because
        # Lightning is going through the old one
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        trainer.callbacks = sorted(callbacks, key=lambda one: one is self)  # type: ignore

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen()
        self._step = trainer.global_step

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._restore()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore()

    def _listen(self) -> None:
        # not earlier: when a fit ends, Lightning restores the handlers it found after on_fit_start
        if self._previous is None and threading.current_thread() is threading.main_thread():
            self.asked = False
            self._previous = signal.signal(signal.Signals[self.signal_name], self._remember)

    def _restore(self) -> None:
        if self._previous is not None:
            signal.signal(signal.Signals[self.signal_name], self._previous)
            self._previous = None

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if trainer.global_step == self._step:
            return  # gradients are being accumulated and would be lost
        self._step = trainer.global_step
        if self._step == trainer.max_steps:
            return  # the run is over; what is left to do is the last validation
        if trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            self._leave(trainer)

    def _leave(self, trainer: Trainer) -> None:
        path = checkpoint_folder(trainer) / "last.ckpt"
        callback = trainer.checkpoint_callback
        if isinstance(callback, ModelCheckpoint) and callback.save_last:
            callback.last_model_path = str(path)  # or the resumed run would write last-v1.ckpt
        trainer.save_checkpoint(path)
        rank_zero_info(f"time is nearly up: saved {path}")
        for logger in trainer.loggers:
            logger.finalize("success")
        if trainer.is_global_zero:
            requeue_job()
        trainer.strategy.barrier("requeue")
        raise SystemExit(0)


def checkpoint_folder(trainer: Trainer) -> Path:
    """Where the run keeps its checkpoints."""
    callback = trainer.checkpoint_callback
    folder = getattr(callback, "dirpath", None)
    if folder:
        return Path(folder)
    return Path(trainer.log_dir or trainer.default_root_dir) / "checkpoints"


def requeue_job() -> None:
    """Ask SLURM to run this job again; without a job there is nothing to ask.

    Raises:
        OSError: If ``scontrol`` refuses.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        rank_zero_info("no SLURM job to requeue; continue with --ckpt_path last.ckpt")
        return
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    command = ["scontrol", "requeue", job]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        reason = done.stderr.strip() if done.returncode else ""
    except FileNotFoundError:
        reason = "there is no such command"
    if reason:
        raise OSError(
            f"{' '.join(command)} failed ({reason}); the run is saved: submit the job again "
            "with --ckpt_path last"
        )
    rank_zero_info(f"requeued job {job}")
