"""Dropout that is lowered when training stagnates, as in the original emulator."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from sciml.core.ema import EMA


class AdaptiveDropout(Callback):
    """Lower dropout, go back to the best weights, or stop, after validations without progress.

    Every validation whose monitor is not better than the best one counts as stagnant. After every
    ``patience`` of them, as long as there is dropout, all of it is lowered by ``step``, the count
    starts again, and the learning rates are set back to their start (to ``low_dropout_lr`` once
    dropout is at most 0.1). When the count passes ``lr_patience``, which is only reached without
    dropout, the best weights are restored and training goes on; at ``early_stop_patience`` it ends.
    The counters and the best weights travel in checkpoints. It goes with ``schedule: plateau``, the
    only one that leaves learning rates alone between validations, and without averaged weights.

    Args:
        monitor: Validation metric; lower is better.
        step: What is taken from the dropout.
        patience: Stagnant validations before dropout is lowered.
        lr_patience: Stagnant validations after which the best weights are restored.
        early_stop_patience: Stagnant validations after which training ends.
        low_dropout_lr: Learning rate from a dropout of 0.1 downwards.
    """

    def __init__(
        self,
        monitor: str = "val/mean_rel",
        step: float = 0.05,
        patience: int = 10,
        *,
        lr_patience: int = 12,
        early_stop_patience: int = 20,
        low_dropout_lr: float = 1e-3,
    ) -> None:
        if step <= 0 or patience < 1:
            raise ValueError(f"dropout step {step} and patience {patience} have to be positive")
        self.monitor, self.step, self.patience = monitor, step, patience
        self.lr_patience, self.early_stop_patience = lr_patience, early_stop_patience
        self.low_dropout_lr = low_dropout_lr
        self.best = float("inf")
        self.stagnant = 0
        self.dropout: list[float] = []
        self.best_weights: dict[str, Tensor] = {}
        self._layers: list[nn.Dropout] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _check_run(trainer)
        layers = [one for one in pl_module.modules() if isinstance(one, nn.Dropout)]
        self._layers = [layer for layer in layers if layer.training]  # not of a frozen network
        if not self.dropout:
            self.dropout = [layer.p for layer in self._layers]
        if len(self.dropout) != len(self._layers):
            raise ValueError(
                f"the checkpoint has {len(self.dropout)} dropout layers, "
                f"the network {len(self._layers)}"
            )
        self._apply()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics))
            raise ValueError(f"the monitor '{self.monitor}' is not logged; there are {known}")
        value = float(trainer.callback_metrics[self.monitor])
        if value < self.best:
            self.best, self.stagnant = value, 0
            weights = pl_module.state_dict()
            self.best_weights = {n: v.detach().cpu().clone() for n, v in weights.items()}
            return
        self.stagnant += 1
        if any(self.dropout) and self.stagnant % self.patience == 0:
            self._lower(trainer)
        elif self.stagnant == self.lr_patience + 1 and self.best_weights:
            pl_module.load_state_dict(self.best_weights)
        if self.stagnant >= self.early_stop_patience:
            trainer.should_stop = True

    def _lower(self, trainer: Trainer) -> None:
        # rounded, or 0.3 less six times 0.05 would not be 0
        self.dropout = [max(0.0, round(p - self.step, 6)) for p in self.dropout]
        self._apply()
        self.stagnant = 0
        low = max(self.dropout) <= 0.1
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.low_dropout_lr if low else group["initial_lr"]

    def _apply(self) -> None:
        for layer, p in zip(self._layers, self.dropout, strict=True):
            layer.p = p

    def state_dict(self) -> dict[str, Any]:
        """Counters, dropout and best weights."""
        return {
            "best": torch.tensor(self.best, dtype=torch.float64),
            "stagnant": self.stagnant,
            "dropout": list(self.dropout),
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the state was taken.

        Args:
            state_dict: What `state_dict` returned.
        """
        self.best = float(state_dict["best"])
        self.stagnant = int(state_dict["stagnant"])
        self.dropout = list(state_dict["dropout"])
        self.best_weights = state_dict["best_weights"]


def _check_run(trainer: Trainer) -> None:
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    if any(isinstance(one, EMA) and one.decay for one in callbacks):
        raise ValueError(
            "AdaptiveDropout goes back to the best weights, and training with averaged ones would "
            "write its own over them; set --ema.decay 0"
        )
    schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
    if not all(isinstance(one, ReduceLROnPlateau) for one in schedules):
        raise ValueError(
            "AdaptiveDropout sets the learning rate, which this schedule sets again at every step; "
            "set --model.optim.schedule plateau"
        )
