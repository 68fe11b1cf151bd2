"""Losses on scaled abundances (b rows, S species, E elements, L latents)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from sciml.core.metrics import Term

LN10 = math.log(10.0)
CAP = 12.0  # exponent beyond which the exponential error goes on as a straight line
REFERENCE_SCALE = 1e-3  # of the original total


@dataclass(frozen=True)
class AbundanceLoss:
    """Which errors of scaled abundances count, and how much.

    The default is the mean Huber error in decades of a range of twenty. The terms of the original
    project are the relative error ``10^(power d) - 1`` summed over species, its worst species, and
    the logarithmic error of the element totals; their published sum is 1e-3 times
    ``exponential 1, worst 2, elements 100`` (500 for emulators).

    Args:
        huber: Weight of ``mean Huber(20 (ŝ - s), delta)``.
        delta: Error, in decades of twenty, below which Huber is quadratic.
        exponential: Weight of the sum over species of ``10^(power d) - 1``.
        power: Decades of the exponential error; with 20 of twenty decades a factor of two costs 1.
        delta_power: d is ``|ŝ - s|`` (1) or its square (2).
        worst: Weight of the largest exponential error of a row.
        elements: Weight of the sum over elements of ``|log10 (x̂A / xA)|``.
        emphasis: Weight species in the Huber term by ``0.25 + 0.75 σ(2 (log10 x + 12))``, so that
            those below 1e-12 count a quarter.
    """

    huber: float = 1.0
    delta: float = 0.3
    exponential: float = 0.0
    power: float = 20.0
    delta_power: Literal[1, 2] = 1
    worst: float = 0.0
    elements: float = 0.0
    emphasis: bool = False

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every term that counts, by its name."""
        known = {
            "huber": self.huber,
            "exponential": REFERENCE_SCALE * self.exponential,
            "worst": REFERENCE_SCALE * self.worst,
            "elements": REFERENCE_SCALE * self.elements,
        }
        return {name: weight for name, weight in known.items() if weight}

    def terms(
        self, predicted: Tensor, true: Tensor, limits: Tensor, matrix: Tensor
    ) -> dict[str, Term]:
        """Sum over rows and number of rows of every term that counts.

        Args:
            predicted: Scaled abundances, ``(b, S)``.
            true: Same shape.
            limits: log10 of the abundances that scale to 0 and to 1, ``(2,)``.
            matrix: Atoms of every element in every species, ``(S, E)``.
        """
        with torch.autocast(predicted.device.type, enabled=False):
            predicted, true = predicted.float(), true.float()
            rows: dict[str, Tensor] = {}
            if self.huber:
                weight = emphasis(true, limits) if self.emphasis else None
                rows["huber"] = huber_rows(predicted, true, self.delta, weight)
            if self.exponential or self.worst:
                error = exponential_error(predicted, true, self.power, self.delta_power)
                rows["exponential"], rows["worst"] = error.sum(1), error.amax(1)
            if self.elements:
                rows["elements"] = element_rows(predicted, true, limits, matrix)
        count = torch.tensor(float(len(true)), device=true.device)
        return {name: (rows[name].sum(), count) for name in self.weights}


def huber_rows(
    predicted: Tensor, true: Tensor, delta: float, weight: Tensor | None = None
) -> Tensor:
    """Mean over species of the Huber error of ``20 (ŝ - s)``, ``(b,)``.

    Args:
        predicted: Scaled abundances, ``(b, S)``.
        true: Same shape.
        delta: Error below which it is quadratic.
        weight: Of every entry, same shape.
    """
    error = huber_loss(20 * predicted, 20 * true, reduction="none", delta=delta)
    return (error if weight is None else weight * error).mean(1)


def emphasis(true: Tensor, limits: Tensor) -> Tensor:
    """Weights ``0.25 + 0.75 σ(2 (log10 x + 12))`` of scaled abundances.

    Args:
        true: Scaled abundances, ``(b, S)``.
        limits: log10 of the abundances that scale to 0 and to 1, ``(2,)``.

    Returns:
        Same shape.
    """
    low, high = limits.to(true).unbind()
    return 0.25 + 0.75 * torch.sigmoid(2 * (low + (high - low) * true + 12))


def exponential_error(
    predicted: Tensor, true: Tensor, power: float = 20.0, delta_power: Literal[1, 2] = 1
) -> Tensor:
    """``10^(power d) - 1`` of every entry, continued as a straight line where it would overflow.

    With 20 decades and power 20 it is the symmetric relative error ``max(x̂/x, x/x̂) - 1``.

    Args:
        predicted: Scaled abundances, ``(b, S)``.
        true: Same shape.
        power: Decades.
        delta_power: ``d = |ŝ - s|`` or its square.

    Returns:
        Same shape.
    """
    distance = (predicted - true).abs()
    exponent = power * LN10 * (distance if delta_power == 1 else distance.square())
    inside = torch.expm1(exponent.clamp(max=CAP))
    return inside + math.exp(CAP) * (exponent - CAP).clamp(min=0)


def element_rows(predicted: Tensor, true: Tensor, limits: Tensor, matrix: Tensor) -> Tensor:
    """Sum over elements of ``|log10 (x̂ A) - log10 (x A)|``, ``(b,)``.

    Args:
        predicted: Scaled abundances, ``(b, S)``.
        true: Same shape.
        limits: log10 of the abundances that scale to 0 and to 1, ``(2,)``.
        matrix: Atoms of every element in every species, ``(S, E)``.
    """
    low, high = limits.to(true).unbind()
    totals = [
        torch.exp(LN10 * (low + (high - low) * scaled.clamp(max=1.5))) @ matrix.to(scaled)
        for scaled in (predicted, true)
    ]
    return (totals[0].log10() - totals[1].log10()).abs().sum(1)


def latent_rows(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean over latents of ``Huber(z - z*, 1)``, ``(b,)``.

    Args:
        predicted: Latents of the emulator, ``(b, L)``.
        true: Latents of the true states, same shape.
    """
    return huber_loss(predicted, true, reduction="none", delta=1.0).mean(1)
