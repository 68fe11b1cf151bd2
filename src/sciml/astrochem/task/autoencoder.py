"""Train and evaluate autoencoders of abundances (b rows, S species, L latents)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor, nn

from sciml.astrochem.loss import AbundanceLoss
from sciml.astrochem.metrics.measures import Measures, by_model
from sciml.astrochem.net.base import AutoencoderNet
from sciml.astrochem.physics.scaling import AbundanceScaler
from sciml.astrochem.physics.species import stoichiometric_matrix
from sciml.astrochem.physics.statistics import ChemistryStatistics
from sciml.astrochem.report import comparison_table, species_figure, species_table
from sciml.astrochem.task.chemistry import check_scaling, check_species
from sciml.astrochem.task.export import CODER_PARTS, FORMATS, coder_inputs, coder_module
from sciml.core.export.ports import ExportInputs
from sciml.core.files import write_text
from sciml.core.metrics import Means, Term, weighted_sum
from sciml.core.optim import Optim
from sciml.core.report import house_style
from sciml.core.task import Task, full_precision

Batch = dict[str, Tensor]
PREFIXES = {"network": "", "principal components": "pca_"}
DEFAULT_LOSS = AbundanceLoss()


class AutoencoderTask(Task):
    """Compress scaled abundances to a few latents and reconstruct them.

    Logs ``train/loss`` and its terms each step; each epoch ``val/mae_dex``, ``val/mean_rel`` and
    the other metrics of `AbundanceMetrics`, beside ``val/pca_mae_dex``…: those of as many principal
    components of the training rows.

    Args:
        net: Autoencoder to train.
        species: Names in the order of the abundances; comes from the data module.
        elements: Elements that are counted; comes from the data module.
        optim: How the weights are updated.
        loss: Which errors of scaled abundances count.
        init_from: Checkpoint whose weights are the starting point, by name and shape.
        compile: Compile the network in place with ``torch.compile``.
        figure_every_n_epochs: Epochs between two drawings of the validation figures.
    """

    matrix: Tensor
    center: Tensor
    axes: Tensor

    def __init__(
        self,
        net: AutoencoderNet,
        species: list[str],
        elements: list[str],
        optim: Optim = Optim(),
        loss: AbundanceLoss = DEFAULT_LOSS,
        *,
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
        self.species, self.elements = list(species), list(elements)
        self.loss = loss
        self.scaler = AbundanceScaler()
        self.measures = Measures(self.species, self.elements, list(PREFIXES), max_steps=1)
        self.terms = Means(list(loss.weights))
        self._errors = np.zeros(0)  # of the species in the last validation or test
        matrix = torch.from_numpy(stoichiometric_matrix(self.species, tuple(self.elements)))
        self.register_buffer("matrix", matrix, persistent=False)
        size = len(self.species)
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("axes", torch.zeros(net.latent_dim, size))

    def forward(self, abundance: Tensor) -> Tensor:
        scaled: Tensor = self.net(self.scaler.scale(abundance))
        return self.scaler.unscale(scaled)

    def use_statistics(self, statistics: ChemistryStatistics) -> None:
        self.scaler.set_limits(statistics.lo, statistics.hi)
        self.net.set_statistics(statistics)
        axes = torch.linalg.eigh(statistics.covariance)[1].flip(1)[:, : self.net.latent_dim]
        self.center.copy_(statistics.mean)
        self.axes.copy_(axes.t())

    def statistics_to_keep(self) -> tuple[str, ...]:
        return "scaler.limits", "center", "axes"  # those of the network belong to its weights

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_species(self.species, checkpoint["hyper_parameters"].get("species") or [])
        super().on_load_checkpoint(checkpoint)

    def on_fit_start(self) -> None:  # the first hooks of a run after its weights are in place
        check_scaling(self.scaler, self.trainer)

    on_validation_start = on_test_start = on_predict_start = on_fit_start

    def identifiers(self, batch: Batch) -> Sequence[str | int]:
        return [f"tracer {number}" for number in batch["tracer"].unique().tolist()]

    def export_parts(self) -> tuple[str, ...]:
        return CODER_PARTS

    def export_formats(self) -> tuple[str, ...]:
        return FORMATS

    def export_inputs(self, what: str) -> ExportInputs:
        names = {"species": self.species, "elements": self.elements}
        return coder_inputs(what, self.net, self.scaler, **names)

    def export_module(self, what: str) -> nn.Module:
        return coder_module(what, self.net, self.scaler)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        true = batch["abundance"]
        terms = self._terms(self.net(true), true)
        return self.log_loss(terms, self.loss.weights, len(true))

    def validation_step(self, batch: Batch, index: int) -> None:
        self._evaluate(batch["abundance"])

    def test_step(self, batch: Batch, index: int) -> None:
        self._evaluate(batch["abundance"])

    def predict_step(self, batch: Batch, index: int) -> Batch:
        latent = self.net.encode(batch["abundance"])
        return {
            "tracer": batch["tracer"],
            "latent": latent,
            "abundance": self.scaler.unscale(self.net.decode(latent)),
        }

    def forget(self, split: str) -> None:
        self.measures.reset(list(PREFIXES))
        self.measures.set_limits(*self.scaler.range())
        self.terms.reset()

    def measured(self, split: str) -> dict[str, Tensor]:
        means = self.terms.compute()
        losses = {f"{split}/loss_{name}": mean for name, mean in means.items()}
        loss = {f"{split}/loss": weighted_sum(means, self.loss.weights)} if means else {}
        values = self.measures.compute(split, PREFIXES)
        self._errors = self.measures.per_species("network")["mae_dex"].cpu().numpy()
        # of histories only: rows stand alone here
        values = {n: v for n, v in values.items() if "_step_" not in n and "unstable" not in n}
        return values | loss | losses

    def in_progress_bar(self, split: str) -> set[str]:
        return {f"{split}/mae_dex", f"{split}/mean_rel"}

    def table(self, title: str, values: Mapping[str, float], split: str) -> Table:
        return comparison_table(title, by_model(values, split, PREFIXES))

    def write_test(self, folder: Path) -> dict[str, Any]:
        species = self.measures.per_species("network")
        columns = {name: values.tolist() for name, values in species.items()}
        if self.trainer.is_global_zero:
            write_text(folder / "species.csv", species_table(self.species, columns))
        return {}

    def figures(self, split: str) -> dict[str, Figure]:
        with house_style():
            return {"species": species_figure(self.species, self.elements, self._errors)}

    def _terms(self, predicted: Tensor, true: Tensor) -> dict[str, Term]:
        return self.loss.terms(predicted, true, self.scaler.limits, self.matrix)

    def _evaluate(self, true: Tensor) -> None:
        predicted = self.net(true)
        self.terms.update(self._terms(predicted, true))
        with full_precision(self.device):
            deviation = true - self.center
            principal = self.center + deviation @ self.axes.t() @ self.axes
        valid = torch.ones(len(true), 1, dtype=torch.bool, device=true.device)
        abundance = self.scaler.unscale(true)[:, None]
        for name, scaled in zip(PREFIXES, (predicted, principal), strict=True):
            self.measures.update(name, self.scaler.unscale(scaled)[:, None], abundance, valid)
