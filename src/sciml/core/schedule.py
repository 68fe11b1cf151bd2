"""The learning rate over a run."""

import math
from collections.abc import Callable
from typing import NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from sciml.core.optim import Optim

ONECYCLE_START = 1 / 25  # of the peak, as in torch


class Length(NamedTuple):
    """Optimizer steps of a run and of one of its epochs; infinite where nothing limits them.

    Args:
        run: Steps of the run.
        epoch: Steps of an epoch.
    """

    run: float
    epoch: float


def build_schedule(
    optimizer: Optimizer, optim: Optim, length: Callable[[], Length]
) -> LRScheduler | ReduceLROnPlateau:
    """The learning-rate schedule of the settings.

    Args:
        optimizer: Optimizer whose groups hold their peak learning rates.
        optim: Settings.
        length: Asked at every step, since tuning the batch size changes it.

    Raises:
        ValueError: If ``plateau`` is combined with a warm-up.
    """
    if optim.schedule != "plateau":
        return LambdaLR(optimizer, lambda step: learning_rate_factor(step, optim, length()))
    if optim.warmup:
        raise ValueError("optim.schedule plateau has no warm-up; set optim.warmup to 0")
    return ReduceLROnPlateau(
        optimizer,
        factor=optim.factor,
        patience=optim.patience,
        min_lr=optim.lr * optim.min_lr,
    )


def refresh(schedule: object) -> None:
    """Set the learning rates that belong to the schedule's place.

    Settings may have changed since its last step, and the learning-rate finder forgets warm-up and
    layer decay. A plateau has no rates of its own and is left alone.

    Args:
        schedule: A schedule of a trainer.
    """
    if not isinstance(schedule, LambdaLR):
        return
    groups = schedule.optimizer.param_groups
    for group, base, factor in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = base * factor(schedule.last_epoch)


def learning_rate_factor(step: int, optim: Optim, length: Length) -> float:
    """Learning rate at a step as a fraction of its peak: the product of warm-up and shape.

    Args:
        step: Optimizer steps made so far.
        optim: Settings.
        length: Steps of the run and of an epoch.

    Returns:
        Factor in ``[0, 1]``.

    Raises:
        ValueError: If the settings need the length of a run that nothing limits.
    """
    if math.isinf(length.run) and _needs_length(optim):
        raise ValueError(
            f"optim.schedule {optim.schedule} with warmup {optim.warmup} needs the length of the "
            "run; set --trainer.max_epochs or --trainer.max_steps"
        )
    warmup = optim.warmup * length.run if 0 < optim.warmup < 1 else optim.warmup
    rise = min(1.0, (step + 1) / (warmup + 1))
    after, steps = max(0.0, step - warmup), max(1.0, length.run - warmup)
    return rise * _shape(after, optim, Length(steps, length.epoch))


def _needs_length(optim: Optim) -> bool:
    restarts = optim.schedule == "cosine_restarts" and optim.period <= 1
    return restarts or optim.schedule in {"cosine", "onecycle"} or 0 < optim.warmup < 1


def _shape(step: float, optim: Optim, length: Length) -> float:
    if optim.schedule == "cosine":
        return _fall(step / length.run, optim.min_lr)
    if optim.schedule == "cosine_restarts":
        first = max(1, round(optim.period * length.run if optim.period <= 1 else optim.period))
        cycle = math.floor(math.log2(step / first + 1))
        return _fall((step - first * (2**cycle - 1)) / (first * 2**cycle), optim.min_lr)
    if optim.schedule == "onecycle":
        top = optim.pct_start * (length.run + 1) - 1
        if step < top:
            return _fall(1 - step / top, ONECYCLE_START)
        return _fall((step - top) / (length.run - top), optim.min_lr)
    if optim.schedule == "exponential":
        return max(optim.min_lr, math.pow(optim.gamma, step / length.epoch))
    return 1.0


def _fall(progress: float, lowest: float) -> float:
    """Half a cosine from 1 down to the lowest value."""
    return lowest + (1 - lowest) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


class PlateauSteps(Callback):
    """Let a plateau schedule act on every validation before checkpoints are written.

    Lightning would let it act after the checkpoints of the epoch, and a resumed run would never
    make up for that step.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if _plateaus(trainer) and not trainer.enable_validation:
            raise ValueError("optim.schedule plateau needs validation data; use another schedule")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        for schedule, monitor in _plateaus(trainer):
            if monitor not in trainer.callback_metrics:
                known = ", ".join(sorted(trainer.callback_metrics))
                raise ValueError(f"optim.monitor '{monitor}' is not logged; there are {known}")
            schedule.step(float(trainer.callback_metrics[monitor]))


def _plateaus(trainer: Trainer) -> list[tuple[ReduceLROnPlateau, str]]:
    return [
        (config.scheduler, str(config.monitor))
        for config in trainer.lr_scheduler_configs
        if isinstance(config.scheduler, ReduceLROnPlateau)
    ]
