"""An emulator on whole tracers beside its baselines (b tracers, t steps, S species)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciml.astrochem.apply.emulator import CHUNK, AstroEmulator
from sciml.astrochem.apply.frame import by_length
from sciml.astrochem.apply.inputs import pieces, species_columns
from sciml.astrochem.data.table import TracerTable
from sciml.astrochem.metrics.abundance import AbundanceMetrics
from sciml.astrochem.metrics.baselines import Baseline
from sciml.astrochem.metrics.errors import dex_errors, finite, tracer_errors
from sciml.astrochem.task.rivals import stack_curves

Array = NDArray[np.float64]
ROWS = 32_768  # steps judged at once
EMULATOR, RAW, RECONSTRUCTION = "emulator", "unprojected", "reconstruction"


@dataclass(frozen=True)
class Judgement:
    """How well the tracers of a group are predicted from their first rows.

    Models are ``emulator`` (projected on the elements), ``unprojected`` (the same before that),
    ``reconstruction`` (the autoencoder alone on the true states) and the baselines.

    Args:
        name: Group.
        places: Where the tracers are in the table, int64 ``(b,)``.
        steps: Steps of all of them.
        metrics: By model, values by the names of `AbundanceMetrics`.
        each: By model, `tracer_errors` of every tracer, ``(b,)``.
        curves: By model, mean absolute error of every tracer and step in dex, ``(b, t)``, NaN
            after the end of a tracer.
        species: Means of the emulator over rows, by name, ``(S,)``.
        outside: Share of the conditions of every tracer outside the training ranges, ``(b,)``.
        distance: See `Extrapolation`, ``(b,)``.
        score: See `Extrapolation`, ``(b,)``.
        fallbacks: Steps whose projection needed the fall-back.
    """

    name: str
    places: NDArray[np.int64]
    steps: int
    metrics: dict[str, dict[str, float]]
    each: dict[str, dict[str, Array]]
    curves: dict[str, Array]
    species: dict[str, Array]
    outside: Array
    distance: Array
    score: Array
    fallbacks: int


def aligned(table: TracerTable, emulator: AstroEmulator) -> TracerTable:
    """A table with the species of an emulator in their order.

    Args:
        table: Of the same network.
        emulator: Whose order is wanted.

    Raises:
        ValueError: If the species are others; names them.
    """
    columns = species_columns(table.species, emulator.species)
    if columns == list(range(len(columns))) and table.species == emulator.species:
        return table
    places = [*range(4), *(4 + column for column in columns)]
    values = np.ascontiguousarray(table.values[:, places])
    return TracerTable(
        values, table.time, table.tracer, table.ptr, emulator.species, table.phys, table.meta
    )


def judge(
    emulator: AstroEmulator, table: TracerTable, baselines: Mapping[str, Baseline], name: str
) -> Judgement:
    """Roll out all tracers of a table from row 0 and compare.

    Args:
        emulator: What is judged.
        table: Tracers in the order of its species; those of a single row are left out.
        baselines: Fitted baselines by name.
        name: What the table is called.

    Raises:
        ValueError: If no tracer has a step.
    """
    order = [places for places in by_length(table.ptr[:, 2].tolist()) if _rows(table, places) > 1]
    if not order:
        raise ValueError(f"group {name} has no tracer with two rows; there is nothing to judge")
    models = [EMULATOR, RAW, RECONSTRUCTION, *baselines]
    tally = _Tally(emulator, models, name, longest=int(table.ptr[:, 2].max()))
    for places in order:
        for part in pieces(len(places), max(1, ROWS // _rows(table, places))):
            tally.add(_Batch(emulator, table, places[part]), baselines)
    return tally.result(np.concatenate(order))


def _rows(table: TracerTable, places: NDArray[np.int64]) -> int:
    return int(table.ptr[places[0], 2])


class _Batch:
    """Tracers of one length as tensors."""

    def __init__(
        self, emulator: AstroEmulator, table: TracerTable, places: NDArray[np.int64]
    ) -> None:
        rows = table.ptr[places, 1][:, None] + np.arange(_rows(table, places))
        values = torch.from_numpy(table.values[rows])
        self.start = values[:, 0, 4:]
        self.true = values[:, 1:, 4:]
        self.physics = values[:, :-1, :4]
        self.dt = emulator.checked_dt(torch.from_numpy(np.diff(table.time[rows], axis=1)))
        self.valid = torch.ones(self.true.shape[:2], dtype=torch.bool)


class _Tally:
    """Running results of one group."""

    def __init__(self, emulator: AstroEmulator, models: list[str], name: str, longest: int) -> None:
        self.emulator, self.name = emulator, name
        self.lo, self.hi = emulator.task.scaler.range()
        own = (emulator.species, emulator.elements, self.lo, self.hi, longest)
        self.metrics = {model: AbundanceMetrics(*own) for model in models}
        self.each: dict[str, list[dict[str, Tensor]]] = {model: [] for model in models}
        self.curves: dict[str, list[Tensor]] = {model: [] for model in models}
        self.far: list[tuple[Tensor, Tensor, Tensor]] = []
        self.steps = self.fallbacks = 0

    def add(self, batch: _Batch, baselines: Mapping[str, Baseline]) -> None:
        """Judge the tracers of a batch."""
        for model, predicted in self._predict(batch, baselines):
            self._measure(model, predicted, batch)
        found = self.emulator.extrapolation_score(batch.physics, batch.start, batch.dt)
        share = found.outside / batch.physics[0].numel()
        self.far.append((share, found.distance, found.score))
        self.steps += batch.valid.numel()

    def result(self, places: NDArray[np.int64]) -> Judgement:
        """Everything that was added."""
        outside, distance, score = (
            torch.cat(parts).double().numpy() for parts in zip(*self.far, strict=True)
        )
        values = {model: metric.compute() for model, metric in self.metrics.items()}
        return Judgement(
            name=self.name,
            places=places,
            steps=self.steps,
            metrics={
                model: {name: float(value) for name, value in own.items()}
                for model, own in values.items()
            },
            each={
                model: {key: torch.cat([one[key] for one in parts]).numpy() for key in parts[0]}
                for model, parts in self.each.items()
            },
            curves={model: stack_curves(parts) for model, parts in self.curves.items()},
            species={
                key: value.numpy() for key, value in self.metrics[EMULATOR].per_species().items()
            },
            outside=outside,
            distance=distance,
            score=score,
            fallbacks=self.fallbacks,
        )

    def _predict(
        self, batch: _Batch, baselines: Mapping[str, Baseline]
    ) -> Iterator[tuple[str, Tensor]]:
        emulator, shape = self.emulator, batch.true.shape
        latent = emulator.rollout(batch.physics, batch.start, batch.dt).flatten(0, 1)
        raw = emulator.decode(latent)
        starts = batch.start[:, None].expand(shape).flatten(0, 1)
        projected = torch.empty(raw.shape, dtype=torch.float64)
        for part in pieces(len(raw), CHUNK):  # the projection needs many times its result
            found = emulator.project(raw[part], starts[part])
            projected[part] = found.abundance.cpu()
            self.fallbacks += int(found.fallen_back.sum())
        yield EMULATOR, projected.view(shape)
        yield RAW, raw.view(shape)
        true = batch.true.flatten(0, 1)
        yield RECONSTRUCTION, emulator.decode(emulator.encode(true)).view(shape)
        for name, baseline in baselines.items():
            yield name, baseline.rollout(batch.start, batch.physics)

    def _measure(self, model: str, predicted: Tensor, batch: _Batch) -> None:
        metric = self.metrics[model]
        metric.update(predicted, batch.true, batch.valid)
        limits = {"lo": self.lo, "hi": self.hi}
        self.each[model].append(tracer_errors(predicted, batch.true, batch.valid, **limits))
        clean, _ = finite(predicted, self.lo)
        self.curves[model].append(dex_errors(clean, batch.true, **limits).abs().mean(-1))
