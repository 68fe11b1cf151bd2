"""Whether predicted uncertainties are as large as the errors, and the factors that make them so."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sciml.xec.metrics.resolution import SHARE, VECTOR, half_width, opening_quantile, wrapped
from sciml.xec.physics.coordinates import opening_angle

Columns = Mapping[str, Tensor]
NORMAL = (0.9944578832, 1.9599639845)  # standard deviations that hold 68 % and 95 %
LIMITS = (1e-3, 1e3)  # of a temperature
ROUNDS = 40  # of bisection


def temperature(columns: Columns, name: str) -> Tensor:
    """Factor on the uncertainties of a quantity that makes them hold 68 % of the errors.

    Args:
        columns: ``true_…``, ``pred_…`` and ``sig_…`` of an `EventTable`.
        name: A number such as ``u``, or ``direction``.

    Returns:
        Scalar; 1 where no event has a truth.
    """
    if name == "direction":
        ratio, known = _cone_ratio(columns)
    else:
        ratio, known = _pulls(columns, name)
        ratio = ratio.abs() / NORMAL[0]
    if not known.any():
        return torch.ones((), dtype=torch.float64)
    return torch.quantile(ratio[known], SHARE).clamp(*LIMITS)


def calibration(columns: Columns, name: str) -> dict[str, Tensor]:
    """Coverage, pulls and likelihood of a quantity; empty without truths.

    - ``…_coverage_68`` and ``…_coverage_95``, shares of events within
    - ``…_nll``, mean negative logarithm of the probability density at the truth, of a normal
      distribution in the unit of the column, of a von Mises-Fisher distribution of directions
    - ``…_pull_mean``, ``…_pull_std``, and ``…_calibration_ratio``, mean uncertainty over standard
      deviation of the errors; not of directions

    Args:
        columns: ``true_…``, ``pred_…`` and ``sig_…``, the last after the temperature.
        name: A number such as ``u``, or ``direction``.
    """
    if name == "direction":
        ratio, known = _cone_ratio(columns)
        if not known.any():
            return {}
        wide = cone(columns["kappa"], 0.95) / cone(columns["kappa"], SHARE)
        return {
            "direction_coverage_68": (ratio[known] <= 1).double().mean(),
            "direction_coverage_95": (ratio <= wide)[known].double().mean(),
            "direction_nll": _surprise(columns)[known].mean(),
        }
    pull, known = _pulls(columns, name)
    pull = pull[known]
    if len(pull) < 2:
        return {}
    error, sigma = _error(columns, name)[known], columns[f"sig_{name}"][known]
    return {
        f"{name}_coverage_68": (pull.abs() <= NORMAL[0]).double().mean(),
        f"{name}_coverage_95": (pull.abs() <= NORMAL[1]).double().mean(),
        f"{name}_nll": (0.5 * pull.square() + (sigma * math.sqrt(2 * math.pi)).log()).mean(),
        f"{name}_pull_mean": pull.mean(),
        f"{name}_pull_std": pull.std(),
        f"{name}_calibration_ratio": sigma.mean() / error.std(),
    }


def best_half(columns: Columns, name: str) -> dict[str, Tensor]:
    """Resolution of the events with the smaller uncertainties; empty without truths.

    ``…_best_half_68pct`` of the half whose uncertainty is at most the median: a half-width, of the
    energy that of its relative error with relative uncertainties, of directions the 68 % quantile.

    Args:
        columns: ``true_…``, ``pred_…`` and ``sig_…``.
        name: A number such as ``u``, or ``direction``.
    """
    if name == "direction":
        ratio, known = _cone_ratio(columns)
        error, sigma = ratio * columns["sig_direction"], columns["sig_direction"]
    else:
        error, sigma = _error(columns, name), columns[f"sig_{name}"]
        if name == "energy":
            error, sigma = error / columns["true_energy"], sigma / columns["pred_energy"].abs()
        known = ~(error.isnan() | sigma.isnan())
    if not known.any():
        return {}
    error, sigma = error[known], sigma[known]
    best = error[sigma <= sigma.median()]
    width = opening_quantile(best) if name == "direction" else half_width(best)
    return {f"{name}_best_half_68pct": width}


def cone(concentration: Tensor, share: float) -> Tensor:
    """Opening angle in degrees that holds a share of a von Mises-Fisher distribution.

    Args:
        concentration: κ, any shape.
        share: Between 0 and 1.
    """
    below = torch.log1p(-share * (1 - torch.exp(-2 * concentration)))
    return torch.rad2deg(torch.acos((1 + below / concentration).clamp(-1, 1)))


def concentration_of(angle: Tensor) -> Tensor:
    """The concentration whose 68 % cone has an opening angle, by bisection of its logarithm.

    Args:
        angle: Degrees, any shape; beyond what any concentration gives, the nearest one.
    """
    low = torch.full_like(angle, math.log(1e-4))
    high = torch.full_like(angle, math.log(1e8))
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        wide = cone(middle.double().exp(), SHARE).to(angle) > angle
        low, high = torch.where(wide, middle, low), torch.where(wide, high, middle)
    return ((low + high) / 2).exp()


def _error(columns: Columns, name: str) -> Tensor:
    error = columns[f"pred_{name}"] - columns[f"true_{name}"]
    return wrapped(error) if name == "phi" else error


def _pulls(columns: Columns, name: str) -> tuple[Tensor, Tensor]:
    pull = _error(columns, name) / columns[f"sig_{name}"]
    return pull, ~pull.isnan()


def _surprise(columns: Columns) -> Tensor:
    """``-ln(κ / (2π (1 - exp(-2κ)))) + κ (1 - cos ψ)``, per steradian."""
    kappa, angle = columns["kappa"], _cone_ratio(columns)[0] * columns["sig_direction"]
    away = 2 * torch.deg2rad(angle / 2).sin().square()  # 1 - cos ψ, accurate near 0
    norm = kappa.log() - math.log(2 * math.pi) - torch.log1p(-(-2 * kappa).exp())
    return kappa * away - norm


def _cone_ratio(columns: Columns) -> tuple[Tensor, Tensor]:
    predicted = torch.stack([columns[f"pred_{n}"] for n in VECTOR], 1)
    true = torch.stack([columns[f"true_{n}"] for n in VECTOR], 1)
    ratio = opening_angle(predicted, true) / columns["sig_direction"]
    return ratio, ~ratio.isnan()
