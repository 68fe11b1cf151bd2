"""Errors of reconstructed quantities: biases and widths, in bins and regions (n events).

Columns are float64 arrays ``(n,)`` with the names of the task: ``true_…``, ``pred_…`` of the
network, ``rule_…`` of the conventional estimates and ``sig_…``, for u, v and w in cm, energy in
GeV, timing in ns and ex, ey, ez of the direction. A number that is not known is NaN.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sciml.xec.metrics.resolution import AXES, SHARE, TAILS, VECTOR, selection
from sciml.xec.physics.coordinates import emission_angles, opening_angle

Floats = NDArray[np.float64]
Columns = Mapping[str, Floats]
RESAMPLES = 200
SEED = 42
LEAST = 20  # events of a bin that is shown
METHODS = {"network": "pred_", "conventional": "rule_"}


@dataclass(frozen=True)
class Quantity:
    """How the error of a reconstructed quantity is printed.

    Args:
        title: What it is called.
        unit: Of its errors.
        factor: Such units in that of the columns.
        signed: Whether errors have a sign; the width of those without is their 68 % quantile.
    """

    title: str
    unit: str
    factor: float
    signed: bool = True

    @property
    def label(self) -> str:
        """Name of its error on an axis."""
        word = {"energy": "relative energy error", "direction": "opening angle ψ"}
        return f"{word.get(self.title, f'{self.title} error')} ({self.unit})"


QUANTITIES = {
    "u": Quantity("u", "mm", 10.0),
    "v": Quantity("v", "mm", 10.0),
    "w": Quantity("w", "mm", 10.0),
    "energy": Quantity("energy", "%", 100.0),
    "timing": Quantity("time", "ps", 1000.0),
    "direction": Quantity("direction", "°", 1.0, signed=False),
    "theta": Quantity("θ", "°", 1.0),
    "phi": Quantity("φ", "°", 1.0),
}
JUDGED = ("u", "v", "w", "energy", "timing", "direction")
"""Quantities without the parts of the direction."""


class Spread(NamedTuple):
    """Median and 68 % half-width of errors, each with its bootstrap error."""

    events: int
    bias: float
    bias_error: float
    width: float
    width_error: float


class Bin(NamedTuple):
    """Errors of the events between two values of a variable, and its median among them."""

    low: float
    high: float
    middle: float
    spread: Spread


def error_of(columns: Columns, name: str, prefix: str = "pred_") -> Floats:
    """Reconstructed minus true value, relative for the energy; the opening angle of directions.

    The azimuth is compared around the circle.

    Args:
        columns: Of the events.
        name: One of `QUANTITIES`.
        prefix: Of the reconstructed columns.

    Returns:
        In the unit of the quantity, ``(n,)``; all NaN where columns are missing.
    """
    is_number = name in JUDGED and name != "direction"
    parts = (name,) if is_number else VECTOR
    if any(kind + part not in columns for kind in (prefix, "true_") for part in parts):
        return np.full(len(next(iter(columns.values()), ())), np.nan)
    if is_number:
        gap = columns[prefix + name] - columns[f"true_{name}"]
        return QUANTITIES[name].factor * (gap / columns["true_energy"] if name == "energy" else gap)
    own, true = vectors(columns, prefix), vectors(columns, "true_")
    if name == "direction":
        return opening_angle(own, true)
    turned: Floats = (emission_angles(own) - emission_angles(true))[:, int(name == "phi")]
    return np.remainder(turned + 180, 360) - 180


def vectors(columns: Columns, prefix: str) -> Floats:
    """Directions, ``(n, 3)``.

    Args:
        columns: Of the events.
        prefix: Of their components.
    """
    return np.stack([columns[prefix + axis] for axis in VECTOR], -1)


def angles(columns: Columns, prefix: str) -> Floats:
    """Angles theta and phi of directions in degrees, ``(n, 2)``.

    Args:
        columns: Of the events.
        prefix: Of the components.
    """
    return emission_angles(vectors(columns, prefix))


def is_known(columns: Columns, name: str, prefix: str = "pred_") -> bool:
    """Whether a quantity has errors of enough events to show.

    Args:
        columns: Of the events.
        name: One of `QUANTITIES`.
        prefix: Of the reconstructed columns.
    """
    return int(np.isfinite(error_of(columns, name, prefix)).sum()) >= LEAST


def known_methods(columns: Columns, name: str) -> dict[str, str]:
    """Prefixes of the methods that reconstruct a quantity.

    Args:
        columns: Of the events.
        name: One of `QUANTITIES`.
    """
    return {label: one for label, one in METHODS.items() if is_known(columns, name, one)}


def select(columns: Columns, chosen: NDArray[np.bool_]) -> dict[str, Floats]:
    """Some of the events.

    Args:
        columns: All.
        chosen: Which, ``(n,)``.
    """
    return {name: values[chosen] for name, values in columns.items()}


def fiducial(columns: Columns, near_signal: bool = False) -> NDArray[np.bool_]:
    """Events of the fiducial volume, ``(n,)``; all where the place is not known.

    Args:
        columns: Of the events.
        near_signal: Only energies above 48 MeV, where the energy is known.
    """
    tensors = {name: torch.from_numpy(values) for name, values in columns.items()}
    if any(f"true_{axis}" not in tensors for axis in AXES):
        tensors.pop("true_u", None)
    chosen: NDArray[np.bool_] = selection(tensors, near_signal).numpy()
    return chosen


def spread(errors: Floats, *, signed: bool = True) -> Spread:
    """Median and 68 % half-width of errors, or the 68 % quantile of those without a sign.

    Args:
        errors: ``(n,)``; NaN are left out.
        signed: Whether they have a sign.
    """
    known = errors[np.isfinite(errors)]
    if len(known) < 2:
        return Spread(len(known), *[np.nan] * 4)
    shares = (TAILS[0], 0.5, TAILS[1]) if signed else (SHARE,)
    drawn = np.vstack([np.quantile(known, shares), resampled_quantiles(known, shares)])
    if not signed:
        return Spread(len(known), np.nan, np.nan, float(drawn[0, 0]), float(drawn[1:, 0].std()))
    middle, width = drawn[:, 1], (drawn[:, 2] - drawn[:, 0]) / 2
    numbers = [float(x) for one in (middle, width) for x in (one[0], one[1:].std())]
    return Spread(len(known), *numbers)


def resampled_quantiles(
    values: Floats, shares: Sequence[float], resamples: int = RESAMPLES, seed: int = SEED
) -> Floats:
    """Quantiles of bootstrap resamples, without making the resamples.

    A resample holds the values at the places ``floor(n U)`` of the ordered ones, for n uniform
    numbers U. Its quantiles need only a few of these in their order, and the spacings between such
    order statistics are gamma distributed.

    Args:
        values: ``(n,)``.
        shares: Of the k quantiles.
        resamples: How many.
        seed: Of the random numbers.

    Returns:
        ``(resamples, k)``, distributed like the quantiles of samples drawn with replacement.

    Source: L. Devroye, Non-uniform random variate generation (1986), section V.3.
    """
    size = len(values)
    place = np.asarray(shares) * (size - 1)
    below = np.floor(place).astype(np.int64)
    ranks, index = np.unique([below, np.minimum(below + 1, size - 1)], return_inverse=True)
    shapes = np.diff([0, *(ranks + 1), size + 1])
    spacings = np.random.default_rng(seed).standard_gamma(shapes, (resamples, len(shapes)))
    uniform = spacings.cumsum(1)[:, :-1] / spacings.sum(1, keepdims=True)
    drawn = np.sort(values)[np.minimum((uniform * size).astype(np.int64), size - 1)]
    low, high = drawn[:, index.reshape(2, -1)].transpose(1, 0, 2)
    quantiles: Floats = low + (place - below) * (high - low)
    return quantiles


def in_bins(
    variable: Floats, errors: Floats, edges: Floats, *, signed: bool = True, least: int = LEAST
) -> list[Bin]:
    """Errors in bins of a variable; bins with too few events are left out.

    Args:
        variable: ``(n,)``.
        errors: Same shape.
        edges: Of the bins, in the unit of the variable.
        signed: Whether errors have a sign.
        least: Events that a bin needs.
    """
    known = np.isfinite(errors) & np.isfinite(variable)
    variable, errors = variable[known], errors[known]
    place = np.digitize(variable, edges) - 1
    found = []
    for number in range(len(edges) - 1):
        inside = place == number
        if inside.sum() >= least:
            ends = float(edges[number]), float(edges[number + 1])
            middle = float(np.median(variable[inside]))
            found.append(Bin(*ends, middle, spread(errors[inside], signed=signed)))
    return found
