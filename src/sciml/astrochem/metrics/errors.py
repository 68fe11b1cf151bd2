"""Errors of abundances in decades and ratios (b tracers, t steps, S species, E elements)."""

import torch
from torch import Tensor

TWOFOLD = 0.3010299956639812  # log10 2
DIVERGED = 3.0  # dex off, for a species that matters: the tracer is lost
MATTERS = 1e-10  # abundance above which a species counts for that


def finite(predicted: Tensor, lo: float) -> tuple[Tensor, Tensor]:
    """Predictions with NaN and infinity replaced, and where they were.

    Args:
        predicted: Abundances per H nucleus, any shape.
        lo: What takes their place.

    Returns:
        float64 abundances and booleans, both of the same shape.
    """
    bad = ~torch.isfinite(predicted)
    return predicted.double().masked_fill(bad, lo), bad


def dex_errors(predicted: Tensor, true: Tensor, lo: float = 1e-20, hi: float = 1.0) -> Tensor:
    """Signed error ``log10(x̂ / x)`` in dex, both clipped to ``[lo, hi]``.

    Args:
        predicted: Finite abundances per H nucleus, any shape.
        true: Same shape.
        lo: Abundance below which nothing is distinguished.
        hi: Abundance above which nothing is distinguished.

    Returns:
        float64, same shape.
    """
    return predicted.double().clamp(lo, hi).log10() - true.double().clamp(lo, hi).log10()


def element_errors(predicted: Tensor, true: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Relative error of every element's total, ``|x̂ A / x A - 1|``, nothing clipped.

    Args:
        predicted: Finite abundances per H nucleus, ``(..., S)``.
        true: Same shape.
        matrix: Atoms of every element in every species, float64 ``(S, E)``.

    Returns:
        Errors, float64 ``(..., E)``, 0 where a parcel lacks the element, and booleans of the same
        shape that say where it has the element.
    """
    held = true.double() @ matrix
    there = held > 0
    ratio = (predicted.double() @ matrix) / torch.where(there, held, 1.0)
    return torch.where(there, (ratio - 1).abs(), 0.0), there


def tracer_errors(
    predicted: Tensor, true: Tensor, valid: Tensor, *, lo: float = 1e-20, hi: float = 1.0
) -> dict[str, Tensor]:
    """Errors of every tracer alone, for comparisons in pairs.

    Non-finite predictions count as ``lo``.

    Args:
        predicted: Abundances per H nucleus, ``(b, t, S)``.
        true: Same shape.
        valid: Steps that exist, booleans ``(b, t)``; every tracer has one.
        lo: Abundance below which nothing is distinguished.
        hi: Abundance above which nothing is distinguished.

    Returns:
        ``mae_dex``, ``frac_2x``, ``last_step_dex`` and ``unstable`` (0 or 1), float64 ``(b,)``.
    """
    clean, _ = finite(predicted, lo)
    error = dex_errors(clean, true, lo, hi).abs()
    steps = valid.sum(1)
    last = last_valid(valid)
    rows = torch.arange(len(valid), device=valid.device)
    return {
        "mae_dex": (error.mean(-1) * valid).sum(1) / steps,
        "frac_2x": ((error <= TWOFOLD).double().mean(-1) * valid).sum(1) / steps,
        "last_step_dex": error[rows, last].mean(-1),
        "unstable": diverged(error, true, valid).double(),
    }


def last_valid(valid: Tensor) -> Tensor:
    """Index of the last step of every tracer that exists, whole numbers ``(b,)``.

    Args:
        valid: Steps that exist, booleans ``(b, t)``.
    """
    steps = torch.arange(valid.shape[1], device=valid.device)
    return torch.where(valid, steps, -1).amax(1)


def diverged(error: Tensor, true: Tensor, valid: Tensor) -> Tensor:
    """Tracers with an error above 3 dex of a species above 1e-10 at any step, booleans ``(b,)``.

    Args:
        error: Absolute errors in dex, ``(b, t, S)``.
        true: True abundances, same shape.
        valid: Steps that exist, booleans ``(b, t)``.
    """
    lost = (error > DIVERGED) & (true > MATTERS)
    return (lost.any(-1) & valid).any(1)
