"""Exponential moving average of the trained weights."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor


class EMA(Callback):
    """Validate and save with averaged weights, train and resume with the raw ones.

    Only trainable parameters are averaged, in float32 or wider, on their own device; buffers stay
    the live ones. The decay warms up as ``min(decay, n / (n + 9))`` at the n-th update. A
    checkpoint holds the average under ``state_dict``, so every loader gets it, and the raw
    weights under ``raw_state`` for an exact resume, whichever are in place while it is written.
    Averaged weights stay in place when training ends.

    Args:
        decay: Share of the old average that is kept at an update, in ``[0, 1)``; 0 switches the
            average off.
        every_n_steps: Optimizer steps between two updates.
    """

    def __init__(self, decay: float = 0.999, every_n_steps: int = 1) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema.decay is {decay}; it has to lie in [0, 1)")
        if every_n_steps < 1:
            raise ValueError(f"ema.every_n_steps is {every_n_steps}; it has to be at least 1")
        self.decay = decay
        self.every_n_steps = every_n_steps
        self.average: dict[str, Tensor] = {}
        self.raw: dict[str, Tensor] = {}  # filled exactly while the average is in place
        self.updates = 0
        self.seen_step = 0
        self._module: LightningModule | None = None  # whose raw weights these are
        self._restored: dict[str, Any] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        if self._module is pl_module:
            self._swap_out()  # a second fit in one process goes on from the raw weights
        self.average, self.raw, self.updates = {}, {}, 0
        self._module = self._restored = None
        if self.decay and str(trainer.precision) in {"bf16-true", "16-true"}:
            raise ValueError(
                f"trainer.precision {trainer.precision} rounds the averaged weights away; "
                "use bf16-mixed, or switch the average off with --ema.decay 0"
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.decay:
            return
        trained = _trained(pl_module)
        if self._restored is None:
            self.average = {name: _wide(p.detach()).clone() for name, p in trained.items()}
            self.updates, self.seen_step = 0, trainer.global_step
            return
        stored = self._restored
        self._restored = None
        self.average = {
            name: stored["average"][name].to(p.device, copy=True) for name, p in trained.items()
        }
        self.updates, self.seen_step = stored["updates"], stored["seen_step"]

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
    ) -> None:
        step = trainer.global_step
        if not self.average or step - self.seen_step < self.every_n_steps:
            return
        self.updates += 1
        keep = min(self.decay, self.updates / (self.updates + 9))
        live = [p.detach() for p in _trained(pl_module).values()]
        average = list(self.average.values())
        torch._foreach_lerp_(average, [_wide(p) for p in live], 1 - keep)
        self.seen_step = step

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and self.updates:
            self._swap_in(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._swap_out()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._swap_out()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.updates:
            self._swap_in(pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not self.average:
            return
        weights = checkpoint["state_dict"]
        checkpoint["raw_state"] = {
            name: self.raw.get(name, weights[name]).clone() for name in self.average
        }
        self.write_average(checkpoint)
        checkpoint["ema"] = {
            "average": {name: value.clone() for name, value in self.average.items()},
            "updates": self.updates,
            "seen_step": self.seen_step,
        }

    def write_average(self, checkpoint: dict[str, Any]) -> None:
        """Put the average in the place of the raw weights.

        Args:
            checkpoint: What Lightning collected; its ``state_dict`` is edited in place.
        """
        if not self.updates:
            return
        weights = checkpoint["state_dict"]
        places = {weights[name].data_ptr(): name for name in self.average}
        for name, value in weights.items():  # tied weights have several names
            average = self.average.get(places.get(value.data_ptr(), ""))
            if average is not None and average.shape == value.shape:
                weights[name] = average.to(value.dtype, copy=True)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if "raw_state" in checkpoint:
            # Lightning restored the averaged weights just before this hook
            with torch.no_grad():
                trained = dict(pl_module.named_parameters())
                for name, value in checkpoint["raw_state"].items():
                    trained[name].copy_(value)
        if self.decay and "ema" in checkpoint:
            self._restored = checkpoint["ema"]

    def _swap_in(self, pl_module: LightningModule) -> None:
        if self.raw:
            return
        self._module = pl_module
        self.raw = {name: p.detach().clone() for name, p in _trained(pl_module).items()}
        _write(pl_module, self.average)

    def _swap_out(self) -> None:
        if self.raw and self._module is not None:
            _write(self._module, self.raw)
            self.raw = {}


def _trained(module: LightningModule) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def _wide(value: Tensor) -> Tensor:
    return value.to(torch.promote_types(value.dtype, torch.float32))


@torch.no_grad()
def _write(module: LightningModule, values: dict[str, Tensor]) -> None:
    parameters = dict(module.named_parameters())
    for name, value in values.items():
        parameters[name].copy_(value)
