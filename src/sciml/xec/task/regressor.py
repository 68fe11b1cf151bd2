"""Train and evaluate networks that reconstruct gammas (b events)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor, nn
from torch.optim import Optimizer

from sciml.core.metrics import Means, Term, weighted_sum
from sciml.core.optim import Optim
from sciml.core.task import Task
from sciml.xec.loss import TaskLoss, event_loss, nearest_turn
from sciml.xec.metrics.calibration import concentration_of
from sciml.xec.metrics.events import EventTable
from sciml.xec.net.base import XECNet
from sciml.xec.physics.anchors import Conventional
from sciml.xec.physics.statistics import EventStatistics
from sciml.xec.report.gammas import figures as draw_figures
from sciml.xec.report.predictions import write_predictions
from sciml.xec.report.tables import resolution_table
from sciml.xec.task.augment import Augment, augment
from sciml.xec.task.evaluation import (
    IDENTITY,
    Columns,
    column_names,
    keeps_events,
    metrics,
    recalibrate,
    to_arrays,
    write_test_tables,
)
from sciml.xec.task.losses import choose_losses
from sciml.xec.task.progress import TrainingWatch
from sciml.xec.task.quantities import (
    NUMBERS,
    TimingReference,
    derived_columns,
    needed,
    predicted_columns,
    rule_columns,
    true_columns,
    truth,
    uncertain,
)
from sciml.xec.task.start import check_stored, start_from_legacy
from sciml.xec.task.weights import EventWeights, Reweight, count_training_events

Batch = dict[str, Tensor]
SCALES = {"angle": 10.0, "energy": 0.05, "timing": 0.2, "uvwFI": 1.0}
NO_CHANGE = Augment()
NO_WEIGHTS = Reweight()


class XECTask(Task):
    """Fit position, energy, time and direction of a gamma with one network.

    Logs ``train/loss`` and its terms and ``train/gradient_norm`` before it is clipped each step;
    each epoch ``train/clipped``, the share of clipped steps, and what loading cost. Each validation
    logs ``val/loss`` with its terms, all numbers of `resolutions` in the fiducial volume
    (``val/uvw_u_res_68pct`` …) and above 48 MeV (``val/signal_…``), those of the conventional
    estimates (``val/rule_…``), of `calibration` and `best_half`, and ``val/score``, the mean over
    the tasks of the network's resolution over the conventional one, which checkpoints are chosen
    by. The events of the last validation are in ``predictions_….csv`` in the folder of the run.

    At the end of every validation the uncertainties get a factor for each quantity that makes
    them hold 68 % of the errors; it is kept in the checkpoint and used from then on.

    Args:
        net: Network to train.
        optim: How the weights are updated.
        losses: Loss of a task by its name; by default the likelihood where the network gives
            uncertainties, else smooth L1, and the cosine for directions.
        balance: Weights of the losses as given, or learnt from their sizes.
        timing_reference: Time of the first interaction, or of the emission.
        augment: Changes to the events of training.
        reweight: Distributions of the training events that weights of the events make even.
        init_from: Checkpoint whose weights are the starting point, by name and shape; one of the
            older training code too, whose encoder is enough.
        force_normalisation: Take weights also of a network that saw other normalised values.
        compile: Compile the network in place with ``torch.compile``.
        figure_every_n_epochs: Epochs between two drawings of the validation figures.

    Raises:
        ValueError: If a loss is of no task, or does not fit what the network gives.
    """

    usual_depth: Tensor

    def __init__(
        self,
        net: XECNet,
        optim: Optim = Optim(),
        losses: dict[str, TaskLoss] | None = None,
        *,
        balance: Literal["manual", "uncertainty"] = "manual",
        timing_reference: TimingReference = "interaction",
        augment: Augment = NO_CHANGE,
        reweight: Reweight = NO_WEIGHTS,
        init_from: str | None = None,
        force_normalisation: bool = False,
        compile: bool = False,
        figure_every_n_epochs: int = 10,
    ) -> None:
        super().__init__(
            optim,
            init_from=init_from,
            compile=compile,
            figure_every_n_epochs=figure_every_n_epochs,
        )
        self.save_hyperparameters()
        self.net = net
        self.losses = choose_losses(net, losses or {})
        self.timing_reference: TimingReference = timing_reference
        self.augment = augment
        self.event_weights = EventWeights(reweight, timing_reference)
        self.force_normalisation = force_normalisation
        self.balance = balance
        self.log_scale = nn.ParameterDict(
            {task: nn.Parameter(torch.zeros(())) for task in net.tasks}
            if balance == "uncertainty"
            else {}
        )
        self.conventional = Conventional()
        self.register_buffer("usual_depth", torch.tensor(4.0))
        self.calibrated = uncertain(net)
        self.temperature = nn.Module()  # a buffer for each of them
        for name in self.calibrated:
            self.temperature.register_buffer(name, torch.ones((), dtype=torch.float64))
        self.terms = Means(list(net.tasks))
        self.events = EventTable(column_names(self.calibrated))
        self.watch = TrainingWatch()
        self._columns: Columns = {}  # of the last validation or test
        self._drawn: dict[str, Figure] = {}

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by task, see the network.

        Args:
            batch: Raw values of the sensors.
        """
        output: dict[str, Tensor] = self.net(batch)
        return output

    # start of a run

    def setup(self, stage: str) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if stage != "predict" and hasattr(data, "need"):
            splits = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
            for split in splits[stage]:
                data.need(needed(self.net.tasks, self.timing_reference), split)
        if stage == "fit" and self.init_from is not None:
            force = self.force_normalisation
            if start_from_legacy(self.net, Path(self.init_from), force=force):
                self.init_from = None  # the inherited hook takes those of sciml
        super().setup(stage)
        if stage == "fit" and self.event_weights.reweight.is_used:
            self.event_weights.forget()  # those of the weights that training starts from

    def on_fit_start(self) -> None:  # after a checkpoint is restored, which has them
        count_training_events(self.event_weights, self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        path = self.trainer.ckpt_path if self._trainer is not None else None
        settings = checkpoint.get("hyper_parameters", {})
        force = self.force_normalisation
        check_stored(self.net, settings, path or "the checkpoint", force=force)
        super().on_load_checkpoint(checkpoint)

    def use_statistics(self, statistics: EventStatistics) -> None:
        self.conventional.set_statistics(statistics)
        self.usual_depth.fill_(statistics.depth)
        self.net.set_statistics(statistics)

    def no_decay(self, name: str) -> bool:
        return name.removeprefix("net.") in self.net.no_decay()

    def identifiers(self, batch: Batch) -> Sequence[str | int]:
        pairs = zip(batch["run"].tolist(), batch["event"].tolist(), strict=True)
        return [f"{run}:{event}" for run, event in pairs]

    # steps

    def training_step(self, batch: Batch, index: int) -> Tensor:
        weights = self.event_weights(batch) if self.event_weights.reweight.is_used else None
        batch = augment(batch, self.augment)
        terms = self._terms(self(batch), batch, weights)
        if self.balance == "manual":
            return self.log_loss(terms, self._weights(), len(batch["npho"]))
        balanced = {
            task: (0.5 * (total * torch.exp(-self.log_scale[task]) + self.log_scale[task] * n), n)
            for task, (total, n) in terms.items()
        }
        return self.log_loss(balanced, self._weights(), len(batch["npho"]))

    def validation_step(self, batch: Batch, index: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: Batch, index: int) -> None:
        self._evaluate(batch)

    def predict_step(self, batch: Batch, index: int) -> Batch:
        ids = {name: batch[name] for name in ("run", "event", "number") if name in batch}
        return ids | self.columns(batch) | true_columns(batch, self.timing_reference)

    def columns(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Reconstructed numbers ``pred_…``, and their uncertainties ``sig_…`` as calibrated.

        Args:
            batch: Raw values of the sensors.
        """
        return self._calibrated(predicted_columns(self.net, self(batch), self._logarithmic()))

    def _logarithmic(self) -> frozenset[str]:
        return frozenset(task for task, loss in self.losses.items() if loss.log_transform)

    def _weights(self) -> dict[str, float]:
        return {task: loss.weight for task, loss in self.losses.items()}

    def _terms(
        self, output: Mapping[str, Tensor], batch: Batch, weights: Tensor | None = None
    ) -> dict[str, Term]:
        terms = {}
        for task, raw in output.items():
            loss, target = self.losses[task], truth(task, batch, self.timing_reference)
            if loss.log_transform:
                target = target.clamp(min=1e-6).log()
            elif task in NUMBERS:
                target = self.net.space(task).enter(
                    target.to(torch.promote_types(raw.dtype, torch.float32))
                )
            elif task == "angle":
                target = nearest_turn(target, raw)
            own = event_loss(loss, raw, target, loss.scale or SCALES.get(task, 1.0))
            if weights is None:
                terms[task] = (own.sum(), torch.tensor(float(len(own)), device=own.device))
            else:
                terms[task] = ((weights * own).sum(), weights.sum())
        return terms

    def _calibrated(self, columns: dict[str, Tensor]) -> dict[str, Tensor]:
        for name in self.calibrated:
            factor = getattr(self.temperature, name)
            columns[f"sig_{name}"] = columns[f"sig_{name}"] * factor.to(columns[f"sig_{name}"])
        if "kappa" in columns:
            columns["kappa"] = concentration_of(columns["sig_direction"])
        return columns

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        limit = None if gradient_clip_algorithm == "value" else gradient_clip_val
        self.watch.see_gradient(self, limit)
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if self.trainer.is_last_batch:
            every = self.figure_every_n_epochs
            self.watch.end_epoch(self, every > 0 and self.current_epoch % every == 0)

    # evaluation

    def _evaluate(self, batch: Batch) -> None:
        output = self(batch)
        self.terms.update(self._terms(output, batch))
        anchors = self.conventional(batch["npho"], batch["relative_time"])
        columns = {
            **true_columns(batch, self.timing_reference),
            **self._calibrated(predicted_columns(self.net, output, self._logarithmic())),
            **rule_columns(anchors, batch, self.usual_depth, self.timing_reference),
        }
        columns |= derived_columns(columns, batch, self.timing_reference)
        ids = {name: batch[name] for name in IDENTITY if name in batch}
        self.events.update(columns | ids)

    def forget(self, split: str) -> None:
        self.terms.reset()
        self.events.reset()
        self._columns, self._drawn = {}, {}

    def measured(self, split: str) -> dict[str, Tensor]:
        means = self.terms.compute()
        values = {f"{split}/loss": weighted_sum(means, self._weights())}
        values |= {f"{split}/loss_{task}": mean for task, mean in means.items()}
        columns = self.events.columns()
        if split == "val" and not self.trainer.sanity_checking:
            columns = recalibrate(columns, self.temperature)
        if keeps_events(self.trainer):
            self._columns = to_arrays(columns)
        found = metrics(columns, self.net.tasks, self.calibrated)
        return values | {f"{split}/{name}": value for name, value in found.items()}

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        folder = self.trainer.log_dir  # a collective: every rank has to ask
        if folder is not None and self._columns:
            write_predictions(Path(folder), self._columns)
        self._columns = {}

    def write_test(self, folder: Path) -> dict[str, Any]:
        if self._columns:
            self._drawn = write_test_tables(folder, self._columns)
        return {}

    def figures(self, split: str) -> dict[str, Figure]:
        return self._drawn if split == "test" else draw_figures(self._columns)

    def in_progress_bar(self, split: str) -> set[str]:
        return {f"{split}/score"}

    def table(self, title: str, values: Mapping[str, float], split: str) -> Table:
        return resolution_table(title, values, split)
