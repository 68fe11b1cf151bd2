"""Leave a SLURM job in good order when its time runs out, and queue it again."""

import os
import signal
import subprocess
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import STEP_OUTPUT


class Requeue(Callback):
    """Save, requeue the job and exit when a signal announces the end of its time.

    The signal only sets a flag. After the batch, or after the validation that is due then, all
    ranks agree, write ``checkpoints/last.ckpt``, the first rank calls ``scontrol requeue``, and
    all leave with exit code 0. The requeued job has the same number, hence the same folder, and
    ``ckpt_path: last`` continues there. Outside SLURM the run is saved and left just the same.
    The announced time has to be longer than one validation.

    Args:
        signal_name: Signal that SLURM sends (``--signal=SIGUSR1@120``).
    """

    def __init__(self, signal_name: str = "SIGUSR1") -> None:
        if signal_name not in signal.Signals.__members__:
            raise ValueError(f"requeue.signal_name '{signal_name}' is no signal; try SIGUSR1")
        self.signal_name = signal_name
        self.asked = False
        self._previous: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.asked = False
        self._previous = signal.signal(signal.Signals[self.signal_name], self._remember)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
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
        if not _validation_is_due(trainer):
            self._leave_if_asked(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._leave_if_asked(trainer)

    def _leave_if_asked(self, trainer: Trainer) -> None:
        if not trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            return
        path = checkpoint_folder(trainer) / "last.ckpt"
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
        RuntimeError: If ``scontrol`` refuses.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        rank_zero_info("no SLURM job to requeue; continue with --ckpt_path last.ckpt")
        return
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"scontrol requeue {job} failed: {done.stderr.strip()}")
    rank_zero_info(f"requeued job {job}")


def _validation_is_due(trainer: Trainer) -> bool:
    loop = trainer.fit_loop
    fetcher = loop._data_fetcher
    return fetcher is not None and bool(loop.epoch_loop._should_check_val_fx(fetcher))
