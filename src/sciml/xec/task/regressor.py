"""Train and evaluate networks that reconstruct gammas (b events)."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from rich.table import Table
from torch import Tensor, nn

from sciml.core.metrics import Means, Term, weighted_sum
from sciml.core.optim import Optim
from sciml.core.task import Task
from sciml.xec.loss import TaskLoss, event_loss
from sciml.xec.metrics.calibration import calibration, concentration_of, temperature
from sciml.xec.metrics.events import EventTable
from sciml.xec.metrics.resolution import AXES, VECTOR, resolutions, selection
from sciml.xec.net.base import XECNet
from sciml.xec.physics.anchors import Conventional
from sciml.xec.physics.statistics import EventStatistics
from sciml.xec.report.tables import resolution_table
from sciml.xec.task.augment import Augment, augment
from sciml.xec.task.quantities import (
    NUMBERS,
    TimingReference,
    needed,
    predicted_columns,
    rule_columns,
    true_columns,
    truth,
)

Batch = dict[str, Tensor]
SCALES = {"angle": 10.0, "energy": 0.05, "timing": 0.2, "uvwFI": 1.0}
MEASURES = {
    "uvwFI": "uvw_dist_68pct",
    "energy": "energy_rel_68pct",
    "timing": "timing_res_68pct",
    "angle": "angle_resolution_68pct",
    "angleVec": "angle_resolution_68pct",
}
"""What the score compares with that of the conventional estimates."""
COLUMNS = [*AXES, "energy", "timing", *VECTOR]
NO_CHANGE = Augment()


class XECTask(Task):
    """Fit position, energy, time and direction of a gamma with one network.

    Logs ``train/loss`` and its terms each step; each epoch ``val/loss`` with its terms, all
    numbers of `resolutions` in the fiducial volume (``val/uvw_u_res_68pct`` …) and above 48 MeV
    (``val/signal_…``), those of the conventional estimates (``val/rule_…``), coverage and pulls,
    and ``val/score``, the mean over the tasks of the network's resolution over the conventional
    one, which checkpoints are chosen by.

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
        init_from: Checkpoint whose weights are the starting point, by name and shape.
        compile: Compile the network in place with ``torch.compile``.
        figure_every_n_epochs: Epochs between two drawings of the validation figures.

    Raises:
        ValueError: If a loss is of no task, or needs uncertainties that the network does not give.
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
        init_from: str | None = None,
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
        self.losses = {task: (losses or {}).get(task) or _default(net, task) for task in net.tasks}
        _check(net, losses or {}, self.losses)
        self.timing_reference: TimingReference = timing_reference
        self.augment = augment
        self.balance = balance
        self.log_scale = nn.ParameterDict(
            {task: nn.Parameter(torch.zeros(())) for task in net.tasks}
            if balance == "uncertainty"
            else {}
        )
        self.conventional = Conventional()
        self.register_buffer("usual_depth", torch.tensor(4.0))
        self.calibrated = [
            name for task in net.nll_tasks for name in NUMBERS.get(task, ("direction",))
        ]
        self.temperature = nn.Module()  # a buffer for each quantity
        for name in self.calibrated:
            self.temperature.register_buffer(name, torch.ones((), dtype=torch.float64))
        self.terms = Means(list(net.tasks))
        self.events = EventTable(
            [f"{kind}_{name}" for kind in ("true", "pred", "rule") for name in COLUMNS]
            + [f"sig_{name}" for name in self.calibrated]
            + ["true_n_gamma", "pred_n_gamma", "kappa"]
        )

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
        super().setup(stage)

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
        batch = augment(batch, self.augment)
        terms = self._terms(self(batch), batch)
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

    def _terms(self, output: Mapping[str, Tensor], batch: Batch) -> dict[str, Term]:
        terms = {}
        for task, raw in output.items():
            loss, target = self.losses[task], truth(task, batch, self.timing_reference)
            if loss.log_transform:
                target = target.clamp(min=1e-6).log()
            elif task in NUMBERS:
                target = self.net.space(task).enter(
                    target.to(torch.promote_types(raw.dtype, torch.float32))
                )
            own = event_loss(loss, raw, target, loss.scale or SCALES.get(task, 1.0))
            terms[task] = (own.sum(), torch.tensor(float(len(own)), device=own.device))
        return terms

    def _calibrated(self, columns: dict[str, Tensor]) -> dict[str, Tensor]:
        for name in self.calibrated:
            factor = getattr(self.temperature, name)
            columns[f"sig_{name}"] = columns[f"sig_{name}"] * factor.to(columns[f"sig_{name}"])
        if "kappa" in columns:
            columns["kappa"] = concentration_of(columns["sig_direction"])
        return columns

    # evaluation

    def _evaluate(self, batch: Batch) -> None:
        output = self(batch)
        self.terms.update(self._terms(output, batch))
        anchors = self.conventional(batch["npho"], batch["relative_time"])
        self.events.update(
            {
                **true_columns(batch, self.timing_reference),
                **self._calibrated(predicted_columns(self.net, output, self._logarithmic())),
                **rule_columns(anchors, batch, self.usual_depth, self.timing_reference),
            }
        )

    def forget(self, split: str) -> None:
        self.terms.reset()
        self.events.reset()

    def measured(self, split: str) -> dict[str, Tensor]:
        means = self.terms.compute()
        values = {f"{split}/loss": weighted_sum(means, self._weights())}
        values |= {f"{split}/loss_{task}": mean for task, mean in means.items()}
        columns = self.events.columns()
        if split == "val" and not self.trainer.sanity_checking:
            columns = self._recalibrate(columns)
        for prefix, near in (("", False), ("signal_", True)):
            chosen = selection(columns, near)
            if not chosen.any():
                continue
            rows = {name: column[chosen] for name, column in columns.items()}
            own, rule = (_given(resolutions(rows, kind)) for kind in ("pred_", "rule_"))
            values |= {f"{split}/{prefix}{name}": value for name, value in own.items()}
            shared = {name: value for name, value in rule.items() if name in own}
            values |= {f"{split}/{prefix}rule_{name}": v for name, v in shared.items()}
            if not prefix:
                ratios = [own[m] / rule[m] for m in self._measures() if m in own]
                if ratios:
                    values[f"{split}/score"] = torch.stack(ratios).mean()
                for name in self.calibrated:
                    found = calibration(rows, name)
                    values |= {f"{split}/{key}": value for key, value in found.items()}
        if "n_gamma" in self.net.tasks:
            right = columns["true_n_gamma"] == columns["pred_n_gamma"]
            values[f"{split}/n_gamma_accuracy"] = right.double().mean()
        return values

    def _measures(self) -> list[str]:
        return sorted({MEASURES[task] for task in self.net.tasks if task in MEASURES})

    def _recalibrate(self, columns: dict[str, Tensor]) -> dict[str, Tensor]:
        """Fit the factors of the uncertainties, and the columns after it."""
        for name in self.calibrated:
            factor = temperature(columns, name)
            buffer = getattr(self.temperature, name)
            buffer.mul_(factor.to(buffer))
            columns[f"sig_{name}"] = columns[f"sig_{name}"] * factor
        if "direction" in self.calibrated:
            columns["kappa"] = concentration_of(columns["sig_direction"])
        return columns

    def in_progress_bar(self, split: str) -> set[str]:
        return {f"{split}/score"}

    def table(self, title: str, values: Mapping[str, float], split: str) -> Table:
        return resolution_table(title, values, split)


def _default(net: XECNet, task: str) -> TaskLoss:
    if task == "n_gamma":
        return TaskLoss("cross_entropy")
    if task == "angleVec":
        return TaskLoss("von_mises_fisher" if task in net.nll_tasks else "cosine")
    return TaskLoss("gaussian_nll" if task in net.nll_tasks else "smooth_l1")


def _check(net: XECNet, given: Mapping[str, TaskLoss], losses: Mapping[str, TaskLoss]) -> None:
    for task in given:
        if task not in net.tasks:
            raise ValueError(
                f"model.losses has '{task}', which the network does not give; its tasks are "
                f"{', '.join(net.tasks)}"
            )
    for task, loss in losses.items():
        if loss.has_spread and task not in net.nll_tasks:
            raise ValueError(
                f"the loss {loss.kind} of {task} needs uncertainties; add {task} to "
                "model.net.nll_tasks or choose another loss"
            )
        if loss.kind == "von_mises_fisher" and net.width(task) != 4:
            raise ValueError(
                f"{type(net).__name__} gives no concentration of {task}, which von_mises_fisher "
                f"needs; take {task} out of model.net.nll_tasks"
            )


def _given(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if not bool(value.isnan())}
