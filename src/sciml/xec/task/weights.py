"""Weights that make distributions of the training events even (b events, k components)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from sciml.xec.physics.constants import INVALID_FROM
from sciml.xec.physics.coordinates import emission_angles
from sciml.xec.task.quantities import FLIGHT, TimingReference, true_time

Batch = Mapping[str, Tensor]
Read = Callable[[bool], Iterable[Batch]]
"""All training events some at a time, with their photons if asked for."""
Intensity = Literal["none", "uniform", "sqrt"]
BINS = {"angle": (20, 20), "energy": (30,), "timing": (30,), "uvw": (10, 10, 10)}
"""Of the histograms, by what is made even."""
TRUTHS = {"angle": "direction", "energy": "energy", "timing": "timing", "uvw": "uvw"}
PARTS = 5  # of the light of an event, with equal numbers of events
LIMITS = (0.1, 10.0)  # of a weight, before their mean becomes 1


@dataclass(frozen=True)
class Reweight:
    """Distributions of the training events that weights make even; none by default.

    An event weighs as much as others in its bin are few, for all that is named together, at least
    a tenth and at most ten times as much as one of an even distribution.

    Args:
        angle: Emission angles, 20 x 20 bins.
        energy: Energy, 30 bins.
        timing: Time that is trained on, 30 bins.
        uvw: First interaction, 10 x 10 x 10 bins.
        intensity: Photons of an event, in 5 parts with equal numbers of events: ``uniform`` weighs
            a part by the range of photons it covers, ``sqrt`` by the root of it.

    Raises:
        ValueError: If there is no such intensity.
    """

    angle: bool = False
    energy: bool = False
    timing: bool = False
    uvw: bool = False
    intensity: Intensity = "none"

    def __post_init__(self) -> None:
        if self.intensity not in get_args(Intensity):
            raise ValueError(
                f"model.reweight.intensity is '{self.intensity}'; "
                f"use {', '.join(get_args(Intensity))}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Those of `BINS` that are made even."""
        return tuple(name for name in BINS if getattr(self, name))

    @property
    def is_used(self) -> bool:
        """Whether events differ in their weights at all."""
        return bool(self.names) or self.intensity != "none"

    def truths(self, reference: TimingReference) -> list[str]:
        """Names of the truths that the weights are made of.

        Args:
            reference: What the time is that of.
        """
        names = {TRUTHS[name] for name in self.names}
        if self.timing and reference == "interaction":
            names |= set(FLIGHT)
        return sorted(names)


class EventWeights(nn.Module):
    """Histograms of the training events, and the weights that follow from them.

    They are buffers: a checkpoint holds them, and a run that goes on does not count again.

    Args:
        reweight: What is made even.
        reference: What the time is that of.
    """

    def __init__(self, reweight: Reweight, reference: TimingReference) -> None:
        super().__init__()
        self.reweight, self.reference = reweight, reference
        double = torch.float64
        for name in reweight.names:
            bins = BINS[name]
            self.register_buffer(name, torch.ones(bins, dtype=double))
            self.register_buffer(f"{name}_ends", torch.zeros(2, len(bins), dtype=double))
        if reweight.intensity != "none":
            self.register_buffer("intensity", torch.ones(PARTS, dtype=double))
            self.register_buffer("intensity_edges", torch.zeros(PARTS + 1, dtype=double))
        if reweight.is_used:
            self.register_buffer("mean", torch.zeros((), dtype=double))

    @property
    def is_counted(self) -> bool:
        """Whether there are histograms."""
        return bool(self.get_buffer("mean") > 0)

    def forget(self) -> None:
        """Have no histograms, such as those of other training events."""
        self.get_buffer("mean").zero_()

    def forward(self, batch: Batch) -> Tensor:
        """Weights of events, mean 1 over the training events, float32 ``(b,)``.

        Args:
            batch: Raw values and truths as the files have them, not yet changed for training.
        """
        light = summed_light(batch["npho"])
        return (self._limited(batch, light) / self.get_buffer("mean")).float()

    @torch.no_grad()
    def count(self, read: Read) -> None:
        """Make the histograms; the sums of the photons stay in memory, 4 bytes an event.

        Args:
            read: Reads the training events, always in the same order.

        Raises:
            ValueError: If no training event has a truth that is needed.
        """
        light = self._measure(read)
        if light is not None:
            self._divide(light)
        names = self.reweight.names
        counts = {name: torch.zeros_like(self.get_buffer(name)) for name in names}
        for batch in read(False) if names else ():
            for name, count in counts.items():
                place, known = self._cells(name, batch)
                count.view(-1).add_(torch.bincount(place[known], minlength=count.numel()))
        for name, count in counts.items():
            even = count.sum() / (count > 0).sum()
            self.get_buffer(name).copy_(torch.where(count > 0, even / count, 0.0))
        self.get_buffer("mean").copy_(self._mean(read, light))

    def _measure(self, read: Read) -> Tensor | None:
        """Find the ends of the histograms, and the light of all events if it is needed."""
        names, with_light = self.reweight.names, self.reweight.intensity != "none"
        lows = {name: torch.full((len(BINS[name]),), torch.inf).double() for name in names}
        highs = {name: -low for name, low in lows.items()}
        sums = []
        for batch in read(with_light):
            for name in names:
                values = coordinates(name, batch, self.reference)
                values = values[values.isfinite().all(1)]
                if len(values):
                    lows[name] = torch.minimum(lows[name], values.amin(0))
                    highs[name] = torch.maximum(highs[name], values.amax(0))
            if with_light:
                sums.append(summed_light(batch["npho"]))
        for name in names:
            if not bool(lows[name].isfinite().all()):
                raise ValueError(
                    f"no training event has the truth that model.reweight.{name} needs; leave it "
                    "out"
                )
            self.get_buffer(f"{name}_ends").copy_(torch.stack([lows[name], highs[name]]))
        return torch.cat(sums) if with_light else None

    def _divide(self, light: Tensor) -> None:
        """Weigh the parts of the light, the mean over the events being 1."""
        edges = self.get_buffer("intensity_edges")
        edges.copy_(torch.from_numpy(np.quantile(light.numpy(), np.linspace(0, 1, PARTS + 1))))
        count = torch.bincount(self._part(light), minlength=PARTS).double()
        weight = torch.where(count > 0, edges.diff() / count, 0.0)
        if self.reweight.intensity == "sqrt":
            weight = weight.sqrt()
        total = (count * weight).sum()
        even = weight * (count.sum() / total) if total > 0 else torch.ones_like(weight)
        self.get_buffer("intensity").copy_(even)

    def _mean(self, read: Read, light: Tensor | None) -> Tensor:
        if not self.reweight.names:
            return self._limited({}, light).mean()
        total, number = torch.zeros(()).double(), 0
        for batch in read(False):
            size = len(batch[TRUTHS[self.reweight.names[0]]])
            own = None if light is None else light[number : number + size]
            total += self._limited(batch, own).sum()
            number += size
        return total / number

    def _limited(self, batch: Batch, light: Tensor | None) -> Tensor:
        """Products of the weights within their limits, ``(b,)``; what is not known counts as 1."""
        factors = []
        for name in self.reweight.names:
            place, known = self._cells(name, batch)
            factors.append(torch.where(known, self.get_buffer(name).view(-1)[place], 1.0))
        if self.reweight.intensity != "none" and light is not None:
            factors.append(self.get_buffer("intensity")[self._part(light)])
        return torch.stack(factors).prod(0).clamp(*LIMITS)

    def _cells(self, name: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """Bins of events in the flat histogram, and whether their values are known."""
        values = coordinates(name, batch, self.reference)
        low, high = self.get_buffer(f"{name}_ends")
        bins = torch.tensor(BINS[name], device=values.device)
        share = (values - low) / (high - low).clamp(min=torch.finfo(low.dtype).tiny)
        place = (share * bins).nan_to_num().clamp(min=0 * bins, max=bins - 1).long()
        steps = bins.flip(0).cumprod(0).flip(0) // bins  # of rows of the histogram
        return (place * steps).sum(1), values.isfinite().all(1)

    def _part(self, light: Tensor) -> Tensor:
        inner = self.get_buffer("intensity_edges")[1:-1].contiguous()
        return torch.bucketize(light.double(), inner, right=True)


def count_training_events(weights: EventWeights, trainer: Trainer) -> None:
    """Make the weights of a run, on the first process; those of a run that goes on are kept.

    Args:
        weights: Changed.
        trainer: At the start of the fit, with what a checkpoint holds in place.

    Raises:
        ValueError: If the data module cannot read the truths alone, or one is missing.
    """
    if not weights.reweight.is_used or weights.is_counted:
        return
    counted: dict[str, Tensor] = {}
    if trainer.is_global_zero:
        names = weights.reweight.truths(weights.reference)
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not hasattr(data, "need"):
            raise ValueError(
                "model.reweight counts all training events first, which only the files of "
                "RootStream allow; leave it out"
            )
        data.need(names, "train", by="model.reweight")
        loader = trainer.train_dataloader or data.loader("train")
        fresh = EventWeights(weights.reweight, weights.reference)  # not on a device
        fresh.count(lambda photons: loader.truths(names, photons=photons))
        counted = fresh.state_dict()
    weights.load_state_dict(trainer.strategy.broadcast(counted))


def coordinates(name: str, batch: Batch, reference: TimingReference) -> Tensor:
    """Values that are made even, float64 ``(b, k)``.

    Args:
        name: One of `BINS`.
        batch: With the truths.
        reference: What the time is that of.
    """
    if name == "angle":
        return emission_angles(batch["direction"].double())
    if name == "timing":
        return true_time(batch, reference).double()[:, None]
    return batch[name].double().reshape(len(batch[name]), -1)


def summed_light(npho: Tensor) -> Tensor:
    """Photons of an event without invalid sensors, float32 ``(b,)``.

    Args:
        npho: Photons of the sensors, ``(b, 4760)``.
    """
    valid = npho.abs() <= INVALID_FROM  # neither infinite nor NaN
    return torch.where(valid, npho, 0.0).sum(1, dtype=torch.float64).float()
