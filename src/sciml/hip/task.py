"""Train and evaluate networks of energy, forces and Hessian (b molecules)."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor

from sciml.core.export.ports import ExportInputs
from sciml.core.files import write_text
from sciml.core.metrics import Means, Term, gather_rows, weighted_sum
from sciml.core.optim import Optim
from sciml.core.task import Task
from sciml.hip.loss import (
    HIPLoss,
    consistency_loss,
    displace,
    fixed_directions,
    random_directions,
)
from sciml.hip.metrics import Baselines, HIPMetrics, score
from sciml.hip.metrics.collection import IMAGINARY
from sciml.hip.net.base import HIPNet
from sciml.hip.net.export import PARTS, Program, describe
from sciml.hip.physics.layout import entry_mask
from sciml.hip.physics.statistics import HessianStatistics
from sciml.hip.report import (
    Samples,
    comparison_table,
    confusion_shares,
    figures,
    molecule_table,
)

Batch = dict[str, Tensor]
PRECISIONS = ("32-true", "64-true", "bf16-mixed")
DEFAULT_LOSS = HIPLoss()


class HIPTask(Task):
    """Fit energy, forces and Hessian of one network.

    Logs ``train/loss`` and its terms each step; each epoch ``val/loss`` with its terms and all
    metrics of `HIPMetrics` beside those of the baselines: ``val/hessian_mae`` (eV/Å²),
    ``val/forces_mae`` (eV/Å), ``val/energy_mae_atom`` (eV), ``val/cos_v1``… and ``val/score``, the
    mean of the Hessian and forces errors over those of the pair prior and of zero forces, which
    checkpoints are chosen by. ``test`` also writes ``test/molecules.csv`` and
    ``test/summary.json`` into the folder of the run.

    Args:
        net: Network to train.
        optim: How the weights are updated.
        loss: Weights and forms of the losses.
        eig_val_samples: Molecules whose modes are analysed at a validation during fit; null takes
            all. ``validate`` and ``test`` always take all.
        imaginary_below: Frequency in cm⁻¹ below which a mode counts as negative.
        init_from: Checkpoint whose weights are the starting point, by name and shape.
        compile: Compile the network in place with ``torch.compile``.
        figure_every_n_epochs: Epochs between two drawings of the validation figures.
    """

    def __init__(
        self,
        net: HIPNet,
        optim: Optim = Optim(),
        loss: HIPLoss = DEFAULT_LOSS,
        *,
        eig_val_samples: int | None = 200,
        imaginary_below: float = IMAGINARY,
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
        self.loss = loss
        self.eig_val_samples = eig_val_samples
        self.baselines = Baselines(net.elements)
        self.val_metrics = HIPMetrics("val", eig_val_samples, imaginary_below)
        self.test_metrics = HIPMetrics("test", None, imaginary_below)
        self.terms = Means([*loss.weights, "milliseconds"])
        self._undecayed = net.no_decay()
        self._samples = Samples()
        self._rows: list[dict[str, float]] = []

    def forward(self, batch: Batch, hessian: bool = True, forces: bool = True) -> Batch:
        prediction: Batch = self.net(batch, hessian=hessian, forces=forces)
        return prediction

    # start of a run

    def setup(self, stage: str) -> None:
        precision = str(self.trainer.precision)
        if precision not in PRECISIONS:
            raise ValueError(
                f"trainer.precision {precision} is too coarse for coordinates and Hessians; "
                f"use one of {', '.join(PRECISIONS)}"
            )
        radius = getattr(self.trainer.datamodule, "r_max", None)  # type: ignore[attr-defined]
        if radius is not None and radius < self.net.cutoff:
            raise ValueError(
                f"the batches hold neighbours within {radius} Å but the network looks "
                f"{self.net.cutoff} Å far; set --data.batching.r_max {self.net.cutoff}"
            )
        in_fit = stage == "fit"
        self.val_metrics.mode_samples = self.eig_val_samples if in_fit else None
        super().setup(stage)
        if in_fit:
            self._check_head()

    def _check_head(self) -> None:
        named = self.net.named_parameters()
        idle = [name for name, value in named if name.startswith("head") and value.requires_grad]
        if idle and not self.loss.needs_hessian:
            raise ValueError(
                "no loss trains the Hessian head of the network; set --model.net.head null, "
                "give --model.loss.hessian a weight, or freeze it with "
                "--model.optim.frozen '[\"net.head*\"]'"
            )

    def use_statistics(self, statistics: HessianStatistics) -> None:
        statistics = statistics.among(self.net.elements)
        self.net.set_statistics(statistics)
        self.baselines.set_statistics(statistics)

    def statistics_to_keep(self) -> tuple[str, ...]:
        # scales and prior belong to the trained weights, energies of elements to the data
        names = self.state_dict().keys()
        return tuple(n for n in names if n.startswith("baselines.") or n.endswith(".e0"))

    def identifiers(self, batch: Batch) -> Sequence[str | int]:
        return [int(number) for number in batch["id"]]

    def no_decay(self, name: str) -> bool:
        return name.removeprefix("net.") in self._undecayed

    def export_parts(self) -> tuple[str, ...]:
        has_head = any(name.startswith("head") for name, _ in self.net.named_parameters())
        return tuple(name for name in PARTS if has_head or name != "hessian")

    def export_inputs(self, what: str) -> ExportInputs:
        return describe(self.net, what)

    def export_module(self, what: str) -> Program:
        return Program(self.net, tuple(port.name for port in PARTS[what]))

    # steps

    def training_step(self, batch: Batch, index: int) -> Tensor:
        prediction = self(batch, hessian=self.loss.needs_hessian)
        terms = self._terms(batch, prediction, random_directions)
        return self.log_loss(terms, self.loss.weights, len(batch["id"]))

    def validation_step(self, batch: Batch, index: int) -> None:
        self._evaluate(batch, self.val_metrics)

    def test_step(self, batch: Batch, index: int) -> None:
        rows = self._evaluate(batch, self.test_metrics)
        rows = {"id": batch["id"], "atoms": batch["ptr"].diff(), **rows}
        columns = {name: value.tolist() for name, value in rows.items()}
        self._rows += [
            dict(zip(columns, line, strict=True)) for line in zip(*columns.values(), strict=True)
        ]

    def predict_step(self, batch: Batch, index: int) -> Batch:
        prediction = self(batch)
        output = {
            "id": batch["id"],
            "atoms": batch["ptr"].diff(),
            "energy": prediction["total_energy"],
            "forces": prediction["forces"],
        }
        if "hessian" in prediction:  # row after row of one molecule after the other
            real = entry_mask(batch["ptr"])
            output["hessian"] = prediction["hessian"][real[:, :, None] & real[:, None, :]]
        return {name: value.detach() for name, value in output.items()}

    # ends of epochs

    def forget(self, split: str) -> None:
        self._metrics_of(split).reset()
        self.terms.reset()
        self._samples, self._rows = Samples(), []

    def measured(self, split: str) -> dict[str, Tensor]:
        values = self._metrics_of(split).compute()
        means = self.terms.compute()
        values[f"{split}/milliseconds"] = means.pop("milliseconds")
        if means:
            values[f"{split}/loss"] = weighted_sum(means, self.loss.weights)
        values |= {f"{split}/loss_{name}": mean for name, mean in means.items()}
        combined = score(values, split)
        if combined is not None:
            values[f"{split}/score"] = combined
        return values

    def in_progress_bar(self, split: str) -> set[str]:
        return {f"{split}/hessian_mae", f"{split}/forces_mae"}

    def table(self, title: str, values: Mapping[str, float], split: str) -> Table:
        return comparison_table(title, values, split)

    def figures(self, split: str) -> dict[str, Figure]:
        drawn = self._samples.arrays()
        shares = confusion_shares(self._values, split)
        if shares is not None:
            drawn["characters"] = shares
        return figures(drawn)

    def write_test(self, folder: Path) -> dict[str, Any]:
        rows = gather_rows(self._rows)
        if self.trainer.is_global_zero:
            write_text(folder / "molecules.csv", molecule_table(rows))
        return {"molecules": len(rows)}

    # parts

    def _terms(
        self, batch: Batch, prediction: Batch, directions: Callable[[Batch], Tensor]
    ) -> dict[str, Term]:
        if self.loss.needs_hessian and "hessian" not in prediction:
            raise ValueError(
                "the network has no Hessian head, yet the loss asks for Hessians; "
                "set --model.loss.hessian 0 (eigen and consistency too) or give --model.net.head"
            )
        terms = self.loss.terms(prediction, batch)
        if self.loss.consistency > 0:
            step, direction = self.loss.consistency_step, directions(batch)
            moved = self(displace(batch, direction, step), hessian=False)["forces"]
            terms["consistency"] = consistency_loss(prediction, moved, direction, batch, step)
        return terms

    def _evaluate(self, batch: Batch, metrics: HIPMetrics) -> dict[str, Tensor]:
        start = _seconds(self.device)
        prediction = self(batch)
        spent = torch.tensor(1e3 * (_seconds(self.device) - start))
        rows = metrics.update(prediction, batch, self.baselines)
        terms = self._terms(batch, prediction, fixed_directions)
        molecules = torch.tensor(len(batch["id"]))
        self.terms.update(terms | {"milliseconds": (spent, molecules)})
        self._samples.add(prediction, batch, rows)
        return rows

    def _metrics_of(self, split: str) -> HIPMetrics:
        return self.val_metrics if split == "val" else self.test_metrics


def _seconds(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
