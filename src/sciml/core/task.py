"""The base of all Lightning modules: optimizer, statistics, guard, ends of evaluations."""

import math
import warnings
from abc import ABC
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import LRSchedulerTypeUnion, OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from sciml.core.checkpoint import AtomicCheckpointIO, check_fit, load_weights
from sciml.core.ema import EMA
from sciml.core.evaluation import Evaluation
from sciml.core.export.ports import ExportInputs
from sciml.core.optim import (
    Optim,
    build_optimizer,
    freeze,
    gradient_norm,
    parameter_groups,
    set_peaks,
    update_stored,
)
from sciml.core.resume import check_resumable, note_place, take_place
from sciml.core.schedule import Length, PlateauSteps, build_schedule, refresh
from sciml.core.settings import caller, keep_plain, plain

SKIPS_IN_A_ROW = 20


@contextmanager
def full_precision(device: torch.device | str) -> Iterator[None]:
    """Keep a block in the precision of its inputs, also under mixed-precision training.

    Args:
        device: Device the block runs on.
    """
    with torch.autocast(torch.device(device).type, enabled=False):
        yield


class Task(Evaluation, ABC):
    """A network with its loss, metrics and optimizer.

    A concrete task calls ``super().__init__(optim, ...)`` and then ``self.save_hyperparameters()``;
    live networks and dataclasses among its arguments are stored as plain values, so that tasks
    built by hand checkpoint, resume and load exactly as those of the command line. One that
    overrides a hook defined here calls the inherited one too, in ``on_load_checkpoint`` after its
    own edits.

    Args:
        optim: How the weights are updated.
        init_from: Checkpoint whose weights are the starting point, by name and shape.
        compile: Compile the network in place with ``torch.compile``.
        figure_every_n_epochs: Epochs between two drawings of the validation figures.
    """

    def __init__(
        self,
        optim: Optim,
        *,
        init_from: str | None = None,
        compile: bool = False,
        figure_every_n_epochs: int = 10,
    ) -> None:
        super().__init__(figure_every_n_epochs)
        settings = plain(optim)  # numbers of NumPy would get into the optimizer's state
        self.optim = replace(optim, **settings | {"betas": tuple(settings["betas"])})
        self.init_from = init_from
        self.compile_network = compile
        self.skipped = 0
        self.skipped_in_a_row = 0
        self._finite_loss = True
        self._resting: list[nn.Module] = []
        self._identifiers: Sequence[str | int] = ()
        self._metrics: dict[str, Tensor] = {}

    def save_hyperparameters(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("frame", caller())
        with warnings.catch_warnings():  # a live network is replaced by its settings below
            warnings.filterwarnings("ignore", message="Attribute .* is an instance of `nn.Module`")
            super().save_hyperparameters(*args, **kwargs)
        keep_plain(self)

    def keep_setting(self, name: str, value: Any) -> None:
        """Store another value of a constructor argument than the one that was given.

        Args:
            name: The argument.
            value: What a checkpoint has to hold to build the task again.
        """
        self.hparams[name] = plain(value)

    # what a concrete task may fill in

    def use_statistics(self, statistics: Any) -> None:
        """Fill buffers with the statistics of the training data; by default there are none."""

    def statistics_to_keep(self) -> tuple[str, ...]:
        """Tensors that stay as they were set up when training starts from other weights."""
        return ()

    def identifiers(self, batch: Any) -> Sequence[str | int]:
        """Names of the samples in a batch, for messages about it; by default none."""
        return ()

    def no_decay(self, name: str) -> bool:
        """Whether a parameter is excluded from weight decay besides vectors and scalars."""
        return False

    def depth(self, name: str) -> int:
        """Layers between a parameter and the output.

        Raises:
            ValueError: Unless the concrete task knows the order of its layers.
        """
        raise ValueError(
            f"{type(self).__name__} does not order its layers: leave optim.layer_decay at 1"
        )

    def export_parts(self) -> tuple[str, ...]:
        """Parts of the network that can be exported, the default first; by default none."""
        return ()

    def export_formats(self) -> tuple[str, ...]:
        """Formats they can be exported to."""
        return ("pt2", "onnx", "aoti")

    def export_inputs(self, what: str) -> ExportInputs:
        """Tensors of a part and samples of three sizes, with what the network gives for them.

        Args:
            what: One of `export_parts`.

        Raises:
            ValueError: Unless the concrete task describes its parts.
        """
        raise ValueError(f"{type(self).__name__} does not say what tensors '{what}' takes")

    def export_module(self, what: str) -> nn.Module:
        """A part as a module that takes and gives tensors, in the order of `export_inputs`.

        Args:
            what: One of `export_parts`.

        Raises:
            ValueError: Unless the concrete task has parts.
        """
        raise ValueError(f"{type(self).__name__} gives no module for '{what}'")

    # optimizer

    @property
    def lr(self) -> float:
        """Peak learning rate; the learning-rate finder reads and writes it."""
        return self.optim.lr

    @lr.setter
    def lr(self, value: float) -> None:
        factor, self.optim.lr = value / self.optim.lr, value
        for optimizer in [] if self._trainer is None else self.trainer.optimizers:
            schedules = [vars(config.scheduler) for config in self.trainer.lr_scheduler_configs]
            peaks = [factor * group["initial_lr"] for group in optimizer.param_groups]
            set_peaks(optimizer.param_groups, schedules, self.optim, peaks)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self._build_optimizer()
        schedule = build_schedule(optimizer, self.optim, self._length)
        plateau = isinstance(schedule, ReduceLROnPlateau)
        return {  # type: ignore[return-value]
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": schedule,
                "interval": "epoch" if plateau else "step",
                "monitor": self.optim.monitor if plateau else None,
                "reduce_on_plateau": False,  # PlateauSteps does, earlier
            },
        }

    def configure_callbacks(self) -> list[Callback]:
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        there = any(isinstance(callback, PlateauSteps) for callback in callbacks)
        return [PlateauSteps()] if self.optim.schedule == "plateau" and not there else []

    def lr_scheduler_step(self, scheduler: LRSchedulerTypeUnion, metric: Any) -> None:
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def _build_optimizer(self) -> Optimizer:
        groups = parameter_groups(
            self.named_parameters(), self.optim, no_decay=self.no_decay, depth=self.depth
        )
        grouped = sum(len(group["params"]) for group in groups)
        trained = sum(p.requires_grad for p in self.parameters())
        if grouped != trained or not trained:
            raise ValueError(
                f"{grouped} of {trained} trainable tensors are in the optimizer; "
                "optim.frozen must leave something to train"
            )
        return build_optimizer(groups, self.optim)

    def _length(self) -> Length:
        trainer = self.trainer
        run = float(trainer.estimated_stepping_batches)
        epoch = trainer.num_training_batches / trainer.accumulate_grad_batches
        return Length(run, math.ceil(epoch) if math.isfinite(epoch) else epoch)

    # start of a run

    def setup(self, stage: str) -> None:
        if type(self.trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            self.trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        if stage == "fit":
            self._share_statistics()
            if self.init_from is not None:
                load_weights(self, self.init_from, keep=self.statistics_to_keep())
                self.init_from = None  # a second fit goes on from where the first one ended
            self._resting = freeze(self, self.optim.frozen)
            self._finite_loss, self._metrics = True, {}
            self.train()
        if self.compile_network:
            self._compile()

    def _share_statistics(self) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is None or not hasattr(data, "statistics"):
            return
        statistics = data.statistics() if self.trainer.is_global_zero else None
        self.use_statistics(self.trainer.strategy.broadcast(statistics))

    def _compile(self) -> None:
        for child in self.children():
            if isinstance(child, nn.Module) and any(True for _ in child.parameters()):
                child.compile()

    def on_train_start(self) -> None:
        take_place(self.trainer, self._metrics)
        for config in self.trainer.lr_scheduler_configs:
            refresh(config.scheduler)

    def train(self, mode: bool = True) -> "Task":
        super().train(mode)
        for module in self._resting:
            module.eval()
        return self

    # checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        note_place(self.trainer, checkpoint)
        checkpoint["skipped"] = [self.skipped, self.skipped_in_a_row]
        if "optimizer_states" not in checkpoint:  # Lightning asks no callback for weights alone
            for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, EMA):
                    callback.write_average(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._trainer is None:
            return
        check_fit(self, checkpoint["state_dict"], self.trainer.ckpt_path or "the checkpoint")
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        check_resumable(self.trainer, checkpoint)
        update_stored(checkpoint, self.optim, self._build_optimizer())
        self.skipped, self.skipped_in_a_row = checkpoint.get("skipped", [0, 0])
        self._metrics = checkpoint.get("metrics", {})

    # guard against steps that are not finite

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._identifiers = self.identifiers(batch)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        self._finite_loss = self._finite_loss and bool(torch.isfinite(loss.detach()).all())
        super().backward(loss, *args, **kwargs)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        norm = gradient_norm(self.parameters())
        finite = self._finite_loss and (norm is None or bool(torch.isfinite(norm)))
        self._finite_loss = True
        if self.trainer.strategy.reduce_boolean_decision(finite, all=True):
            self.skipped_in_a_row = 0
        else:
            optimizer.zero_grad(set_to_none=True)  # every optimizer passes over absent gradients
            self.skipped += 1
            self.skipped_in_a_row += 1
        self.log("train/skipped", float(self.skipped), reduce_fx="max", batch_size=1)
        if self.skipped_in_a_row >= SKIPS_IN_A_ROW:
            names = ", ".join(str(name) for name in list(self._identifiers)[:16]) or "unknown"
            raise ValueError(
                f"{SKIPS_IN_A_ROW} training steps in a row had a loss or gradient that is not "
                f"finite; samples of the last batch on this rank: {names}. Check these labels, "
                "lower --model.optim.lr or set --trainer.gradient_clip_val"
            )
