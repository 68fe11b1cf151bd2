"""Train and evaluate emulators over whole histories (b tracers, t steps, S species, L latents)."""

import contextvars
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor, nn

from sciml.astrochem.loss import AbundanceLoss, latent_rows
from sciml.astrochem.metrics.baselines import BASELINES
from sciml.astrochem.metrics.measures import Measures, by_model
from sciml.astrochem.net.base import AutoencoderNet, EmulatorNet
from sciml.astrochem.physics.projection import ElementProjection
from sciml.astrochem.physics.scaling import AbundanceScaler
from sciml.astrochem.physics.species import charges, stoichiometric_matrix
from sciml.astrochem.physics.statistics import ChemistryStatistics
from sciml.astrochem.report import (
    comparison_table,
    species_figure,
    species_table,
    step_figure,
    step_table,
)
from sciml.astrochem.task.autoencoder import DEFAULT_LOSS, AutoencoderTask
from sciml.astrochem.task.chemistry import (
    check_scaling,
    check_sizes,
    check_species,
    check_steps,
)
from sciml.astrochem.task.domain import TrainingDomain, upgrade
from sciml.astrochem.task.export import (
    CODER_PARTS,
    EMULATOR_PARTS,
    FORMATS,
    coder_inputs,
    coder_module,
    emulator_inputs,
    emulator_module,
)
from sciml.astrochem.task.latents import survey
from sciml.astrochem.task.merging import merge_intervals
from sciml.astrochem.task.rivals import Curves, Rivals
from sciml.core.checkpoint import load
from sciml.core.export.ports import ExportInputs
from sciml.core.files import write_text
from sciml.core.metrics import Means, Term, weighted_sum
from sciml.core.optim import Optim
from sciml.core.report import house_style
from sciml.core.task import Task

Batch = dict[str, Tensor]
RIVAL_ROWS = 1_000_000  # training rows up to which all baselines are fitted
MODELS = {
    "emulator": "rollout_",
    "reconstruction": "reconstruction_",
    **{name: f"{name}_" for name in BASELINES},
}


class EmulatorTask(Task):
    """Advance the latents of an autoencoder along the conditions of a tracer.

    Training rolls out windows of a tracer from their first row without ever showing the network a
    true state again, and compares the decoded abundances; validation and test roll out whole
    tracers from row 0. The checkpoint holds the autoencoder too: one file is enough to use it.

    Logs ``train/loss`` and its terms each step; each epoch ``val/rollout_mae_dex`` and the other
    metrics of `AbundanceMetrics` on projected states, beside the same of the autoencoder alone
    (``val/reconstruction_…``) and of the baselines (``val/knn_…``); ``val/mean_rel`` is the
    monitor of the original project.

    Args:
        net: Emulator to train.
        autoencoder: Checkpoint of a trained autoencoder, or the network that a checkpoint of this
            task holds.
        species: Names in the order of the abundances; comes from the data module.
        elements: Elements that are counted; comes from the data module.
        optim: How the weights are updated.
        loss: Which errors of scaled abundances count.
        latent_weight: Weight of ``mean Huber(z - z*, 1)``, the distance to the encoded truth.
        noise: Standard deviation of the noise on the first latents of a window in training.
        train_autoencoder: ``joint`` trains the autoencoder too, in the last part of the run.
        joint_from: Part of the run after which it does.
        merge_steps: Train steps over 1 to so many intervals at once; for networks that know dt.
        enforce_charge: Keep the net charge in the projection; auto does if the data conserve it.
        cache_latents: Keep the latents of all training rows in memory instead of encoding every
            window again; not with ``joint``.
        init_from: Checkpoint whose weights are the starting point, by name and shape.
        compile: Compile the rollouts of training with ``torch.compile``.
        figure_every_n_epochs: Epochs between two drawings of the validation figures.

    Raises:
        ValueError: If the checkpoint is not of an autoencoder, or networks do not fit together.
    """

    matrix: Tensor
    charge: Tensor
    keeps_charge: Tensor

    def __init__(
        self,
        net: EmulatorNet,
        autoencoder: str | AutoencoderNet,
        species: list[str],
        elements: list[str],
        optim: Optim = Optim(),
        loss: AbundanceLoss = DEFAULT_LOSS,
        *,
        latent_weight: float = 0.1,
        noise: float = 0.03,
        train_autoencoder: Literal["frozen", "joint"] = "frozen",
        joint_from: float = 0.8,
        merge_steps: int = 1,
        enforce_charge: Literal["auto", "on", "off"] = "auto",
        cache_latents: bool = True,
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
        self.species, self.elements = list(species), list(elements)
        self.scaler = AbundanceScaler()
        self.autoencoder = self._open(autoencoder)
        self.save_hyperparameters()
        self.keep_setting("autoencoder", self.autoencoder)
        check_sizes(net, self.autoencoder, len(self.species), merge_steps)
        self.net = net
        self.loss, self.latent_weight, self.noise = loss, latent_weight, noise
        self.joint, self.joint_from = train_autoencoder == "joint", joint_from
        self.merge_steps, self.enforce_charge = merge_steps, enforce_charge
        self.cache_latents = cache_latents and not self.joint and merge_steps == 1
        self.autoencoder.requires_grad_(self.joint)
        self.measures = Measures(self.species, self.elements, list(MODELS))
        self.terms = Means([*loss.weights, "latent"])
        self.domain = TrainingDomain(self.autoencoder.latent_dim)
        self._register_chemistry()
        self.projection = ElementProjection(self.matrix)
        self._latents: Tensor | None = None
        self.rivals, self.curves = Rivals(), Curves()
        self._fallbacks = 0
        self._errors = np.zeros(0)  # of the species in the last validation or test

    def _register_chemistry(self) -> None:
        matrix = torch.from_numpy(stoichiometric_matrix(self.species, tuple(self.elements)))
        self.register_buffer("matrix", matrix, persistent=False)
        charge = torch.from_numpy(charges(self.species))
        self.register_buffer("charge", charge, persistent=False)
        self.register_buffer("keeps_charge", torch.tensor(False))

    def _open(self, source: str | AutoencoderNet) -> AutoencoderNet:
        if isinstance(source, AutoencoderNet):
            return source
        # a context of its own: the settings of this task are not those of the one in the file
        task = contextvars.Context().run(load, source)
        if not isinstance(task, AutoencoderTask):
            raise ValueError(
                f"{source} holds {type(task).__name__}, not an autoencoder; "
                "give --model.autoencoder a checkpoint of AutoencoderTask"
            )
        check_species(self.species, task.species)
        self.scaler.load_state_dict(task.scaler.state_dict())
        return task.net

    # use

    def forward(self, abundance: Tensor, physics: Tensor, dt: Tensor | None = None) -> Tensor:
        """Abundances after every step, before the projection.

        Args:
            abundance: At the start, per H nucleus, ``(b, S)``.
            physics: Conditions of every step in physical units, ``(b, t, 4)``.
            dt: Lengths of the steps in years, ``(b, t)``.

        Returns:
            ``(b, t, S)``.
        """
        latent = self.autoencoder.encode(self.scaler.scale(abundance))
        return self._decode(self.net.rollout(latent, physics, dt))

    def _decode(self, latent: Tensor) -> Tensor:
        flat = self.scaler.unscale(self.autoencoder.decode(latent.flatten(0, -2)))
        return flat.reshape(*latent.shape[:-1], -1)

    def project(self, abundance: Tensor, start: Tensor, valid: Tensor | None = None) -> Tensor:
        """Abundances with the element totals of their parcels.

        Args:
            abundance: Predicted, ``(b, t, S)``.
            start: At the start of each parcel, ``(b, S)``.
            valid: Steps whose fall-backs are counted, booleans ``(b, t)``; by default all.

        Returns:
            Same shape, float64.
        """
        totals = self.projection.totals(start)[:, None].expand(-1, abundance.shape[1], -1)
        found = self.projection.project(abundance.flatten(0, 1), totals.flatten(0, 1))
        counted = found.fallen_back if valid is None else found.fallen_back[valid.flatten()]
        self._fallbacks += int(counted.sum())
        return found.abundance.reshape(abundance.shape)

    # start of a run

    def use_statistics(self, statistics: ChemistryStatistics) -> None:
        check_scaling(self.scaler, self.trainer)
        check_steps(self.net, statistics)
        if self.enforce_charge == "on" and not bool((self.charge != 0).any()):
            raise ValueError("no species is charged; set --model.enforce_charge off")
        asked = {"on": True, "off": False, "auto": statistics.charge_conserved}
        self._keep_charge(asked[self.enforce_charge])
        self.autoencoder.eval()
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        latents, kept = survey(
            data.chunks("train"), self.scaler, self.autoencoder, self.device, self.cache_latents
        )
        self._latents = kept
        self.net.set_statistics(statistics, latents)
        self.domain.set_statistics(statistics, latents)

    def _keep_charge(self, kept: bool) -> None:
        self.keeps_charge.fill_(kept)
        self.projection.set_charge(self.charge if kept else None)

    def statistics_to_keep(self) -> tuple[str, ...]:
        # the autoencoder too: the latents of the training rows are those of the one given
        weights = {f"net.{name}" for name, _ in self.net.named_parameters()}
        return tuple(name for name in self.state_dict() if name not in weights)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_species(self.species, checkpoint["hyper_parameters"].get("species") or [])
        upgrade(checkpoint["state_dict"])
        super().on_load_checkpoint(checkpoint)
        self._keep_charge(bool(checkpoint["state_dict"]["keeps_charge"]))

    def on_fit_start(self) -> None:  # the first hooks of a run after its weights are in place
        check_scaling(self.scaler, self.trainer)

    on_validation_start = on_test_start = on_predict_start = on_fit_start

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.joint and self.joint_from and math.isinf(self._length().run):
            raise ValueError(
                f"the autoencoder is to be trained after {self.joint_from:g} of the run, which has "
                "no end; set --trainer.max_epochs or --trainer.max_steps"
            )

    def train(self, mode: bool = True) -> "EmulatorTask":
        super().train(mode)
        self.autoencoder.eval()  # without noise and dropout, also while it is trained
        return self

    def identifiers(self, batch: Batch) -> Sequence[str | int]:
        return [f"tracer {number}" for number in batch["tracer"].unique().tolist()]

    def export_parts(self) -> tuple[str, ...]:
        return EMULATOR_PARTS

    def export_formats(self) -> tuple[str, ...]:
        return FORMATS

    def export_inputs(self, what: str) -> ExportInputs:
        if what not in CODER_PARTS:
            return emulator_inputs(what, self)
        names = {"species": self.species, "elements": self.elements}
        return coder_inputs(what, self.autoencoder, self.scaler, **names)

    def export_module(self, what: str) -> nn.Module:
        if what not in CODER_PARTS:
            return emulator_module(what, self)
        return coder_module(what, self.autoencoder, self.scaler)

    # steps

    def training_step(self, batch: Batch, index: int) -> Tensor:
        if self.merge_steps > 1:
            batch = merge_intervals(batch, int(torch.randint(1, self.merge_steps + 1, ())))
        start, true = self._true_latents(batch)
        start = start + self.noise * torch.randn_like(start)
        members = self.net(start, batch["phys"], batch["dt"])
        terms = self._terms(members, true, batch)
        return self.log_loss(terms, self._weights(), len(start))

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        if self.joint and self.global_step < self.joint_from * self._length().run:
            for parameter in self.autoencoder.parameters():
                parameter.grad = None  # not yet
        super().on_before_optimizer_step(optimizer)

    def validation_step(self, batch: Batch, index: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: Batch, index: int) -> None:
        self._evaluate(batch, "test")

    def predict_step(self, batch: Batch, index: int) -> Batch:
        start = self.scaler.unscale(batch["x0"])
        predicted = self.project(self(start, batch["phys"], batch["dt"]), start)
        steps = torch.arange(1, predicted.shape[1] + 1, device=self.device)
        valid = batch["valid"]
        return {
            "tracer": batch["tracer"][:, None].expand_as(valid)[valid],
            "step": steps.expand_as(valid)[valid],
            "abundance": predicted[valid].float(),
        }

    def _true_latents(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if self._latents is not None:
            steps = torch.arange(batch["phys"].shape[1] + 1)
            last = torch.tensor(len(self._latents) - 1)
            rows = torch.minimum(batch["row"].cpu()[:, None] + steps, last)  # a short window's end
            latent = self._latents[rows].to(batch["x0"])
            return latent[:, 0], latent[:, 1:]
        scaled = torch.cat([batch["x0"][:, None], batch["target"]], 1)
        latent = self.autoencoder.encode(scaled.flatten(0, 1)).unflatten(0, scaled.shape[:2])
        # in joint training latents that shrink would bring their targets nearer
        return latent[:, 0], latent[:, 1:].detach()

    def _weights(self) -> dict[str, float]:
        return {**self.loss.weights, "latent": self.latent_weight}

    def _terms(self, members: Tensor, true: Tensor, batch: Batch) -> dict[str, Term]:
        """Terms of the loss of the latents ``(k, b, t, L)`` of every member."""
        valid, many = batch["valid"], len(members)
        latent = members[:, valid].flatten(0, 1)
        true, target = true[valid].repeat(many, 1), batch["target"][valid].repeat(many, 1)
        predicted = self.autoencoder.decode(latent)
        terms = self.loss.terms(predicted, target, self.scaler.limits, self.matrix)
        count = torch.tensor(float(len(target)), device=target.device)
        if self.latent_weight:
            terms["latent"] = (latent_rows(latent, true).sum(), count)
        return terms

    # evaluation

    def _evaluate(self, batch: Batch, split: str) -> None:
        scaled, valid = batch["target"], batch["valid"]
        start, true = self.scaler.unscale(batch["x0"]), self.scaler.unscale(scaled)
        latent = self.autoencoder.encode(batch["x0"])
        rolled = self.net.rollout(latent, batch["phys"], batch["dt"])
        encoded = self.autoencoder.encode(scaled.flatten(0, 1)).unflatten(0, scaled.shape[:2])
        self.terms.update(self._terms(rolled[None], encoded, batch))
        found = {
            "emulator": self.project(self._decode(rolled), start, valid),
            "reconstruction": self._decode(encoded),
        }
        if not self.trainer.sanity_checking and self.rivals.are_due(split):
            if not self.rivals.fitted:
                data = self.trainer.datamodule  # type: ignore[attr-defined]
                few = data.statistics().rows <= RIVAL_ROWS
                self.rivals.fit(data.chunks("train") if few else None, *self.scaler.range())
            found |= self.rivals.rollout(start, batch["phys"])
        for name, predicted in found.items():
            self.measures.update(name, predicted, true, valid)
            self.curves.add(name, predicted, true, valid)

    def forget(self, split: str) -> None:
        self.measures.reset(list(MODELS))
        self.measures.set_limits(*self.scaler.range())
        self.terms.reset()
        self._fallbacks, self.curves = 0, Curves(*self.scaler.range())

    def measured(self, split: str) -> dict[str, Tensor]:
        names = ["emulator", "reconstruction"]
        values = self.measures.compute(split, {name: MODELS[name] for name in names})
        values[f"{split}/mean_rel"] = values[f"{split}/rollout_mean_rel"]
        self._errors = self.measures.per_species("emulator")["mae_dex"].cpu().numpy()
        means = self.terms.compute()
        values[f"{split}/loss"] = weighted_sum(means, self._weights())
        values |= {f"{split}/loss_{name}": mean for name, mean in means.items()}
        if self.rivals.fitted and self.rivals.are_due(split):
            prefixes = {name: MODELS[name] for name in self.rivals.fitted}
            self.rivals.values[split] = self.measures.compute(split, prefixes)
        return values | self.rivals.values.get(split, {})

    def in_progress_bar(self, split: str) -> set[str]:
        return {f"{split}/rollout_mae_dex", f"{split}/rollout_frac_2x"}

    def table(self, title: str, values: Mapping[str, float], split: str) -> Table:
        found = {name: own for name, own in by_model(values, split, MODELS).items() if own}
        return comparison_table(title, found)

    def figures(self, split: str) -> dict[str, Figure]:
        curves = self.curves.tables()
        with house_style():
            return {
                "species": species_figure(self.species, self.elements, self._errors),
                "steps": step_figure(curves),
            }

    def write_test(self, folder: Path) -> dict[str, Any]:
        species, steps = self.measures.per_species("emulator"), self.measures.per_step("emulator")
        fallbacks = torch.tensor(self._fallbacks, device=self.device)
        fallbacks = self.trainer.strategy.reduce(fallbacks, reduce_op="sum")
        if self.trainer.is_global_zero:
            columns = {name: values.tolist() for name, values in species.items()}
            write_text(folder / "species.csv", species_table(self.species, columns))
            write_text(folder / "steps.csv", step_table({"mae_dex": steps.tolist()}))
        return {"projection_fallbacks": int(fallbacks)}
