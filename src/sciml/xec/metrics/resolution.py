"""Resolutions and biases from columns of true and reconstructed numbers (n events).

Half-widths hold 68 % of the residuals after their median, which is reported as the bias.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from sciml.xec.physics.constants import FIDUCIAL
from sciml.xec.physics.coordinates import emission_angles, opening_angle, to_xyz

Columns = Mapping[str, Tensor]
SHARE = 0.68
TAILS = (0.16, 0.84)
HIGH = 0.048  # GeV, energies near the signal
AXES = ("u", "v", "w")
VECTOR = ("ex", "ey", "ez")
TIMES = ("timing", "emission")


def half_width(residual: Tensor) -> Tensor:
    """Half the distance of the 16 % and 84 % quantiles.

    Args:
        residual: ``(n,)``.
    """
    tails = torch.quantile(residual, residual.new_tensor(TAILS))
    return (tails[1] - tails[0]) / 2


def effective_width(residual: Tensor) -> Tensor:
    """Half the shortest interval that holds 68 % of the residuals.

    Args:
        residual: ``(n,)``.
    """
    ordered = residual.sort().values
    inside = max(1, round(SHARE * len(ordered)))
    return (ordered[inside - 1 :] - ordered[: len(ordered) - inside + 1]).min() / 2


def opening_quantile(angle: Tensor) -> Tensor:
    """Opening angle below which 68 % of the events lie.

    Args:
        angle: Degrees, ``(n,)``.
    """
    return torch.quantile(angle, SHARE)


def wrapped(angle: Tensor) -> Tensor:
    """An angle less whole turns, from -180 up to 180 degrees.

    Args:
        angle: Degrees, any shape.
    """
    return torch.remainder(angle + 180, 360) - 180


def selection(columns: Columns, near_signal: bool) -> Tensor:
    """Events of the fiducial volume, bool ``(n,)``; all where the place is not known.

    Args:
        columns: Of an `EventTable`.
        near_signal: Only energies above 48 MeV, where the energy is known.
    """
    number = next(iter(columns.values()))
    kept = torch.ones_like(number, dtype=torch.bool)
    if "true_u" in columns and not columns["true_u"].isnan().all():
        kept &= (columns["true_u"].abs() < FIDUCIAL[0]) & (columns["true_v"].abs() < FIDUCIAL[1])
        kept &= columns["true_w"] >= 0
    if near_signal and "true_energy" in columns and not columns["true_energy"].isnan().all():
        kept &= columns["true_energy"] > HIGH
    return kept


def resolutions(columns: Columns, prefix: str = "pred_") -> dict[str, Tensor]:
    """All resolutions that the columns allow; none without events.

    - ``uvw_{u,v,w}_res_68pct``, ``uvw_{u,v,w}_bias``, ``uvw_dist_68pct`` in cm, ``cos_pos``, mean
      cosine of the angle between both places as the origin sees it
    - ``energy_res_68pct``, ``energy_bias`` in GeV, ``energy_rel_68pct``, ``energy_rel_eff``
    - ``timing_res_68pct``, ``timing_bias`` in ns, and ``emission_…`` of the other time
    - ``angle_resolution_68pct``, ``theta_bias``, ``phi_bias`` in degrees, ``theta_rms`` and
      ``phi_rms``, standard deviations of all errors, ``theta_skew``, ``phi_skew``, and ``cos``,
      mean cosine of the opening angle

    Args:
        columns: True numbers ``true_…`` and reconstructed ones.
        prefix: Of the reconstructed ones.
    """
    found: dict[str, Tensor] = {}
    pairs = {
        name: (columns[prefix + name], columns[f"true_{name}"])
        for name in (*AXES, "energy", *TIMES, *VECTOR)
        if prefix + name in columns and f"true_{name}" in columns
    }
    known = {n: ~(p.isnan() | t.isnan()) for n, (p, t) in pairs.items()}
    for parts in (AXES, VECTOR):  # known all together or not at all
        there = [known[n] for n in parts if n in known]
        known |= {n: torch.stack(there).all(0) for n in parts if n in known}
    pairs = {n: (p[known[n]], t[known[n]]) for n, (p, t) in pairs.items() if known[n].any()}
    if pairs.keys() >= set(AXES):
        found |= _position(pairs)
    if "energy" in pairs:
        found |= _energy(*pairs["energy"])
    for name in [name for name in TIMES if name in pairs]:
        residual = pairs[name][0] - pairs[name][1]
        found[f"{name}_res_68pct"] = half_width(residual)
        found[f"{name}_bias"] = residual.median()
    if pairs.keys() >= set(VECTOR):
        found |= _direction(pairs)
    return found


def _position(pairs: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    found, squares = {}, []
    for axis in AXES:
        residual = pairs[axis][0] - pairs[axis][1]
        found[f"uvw_{axis}_res_68pct"] = half_width(residual)
        found[f"uvw_{axis}_bias"] = residual.median()
        squares.append(residual.square())
    found["uvw_dist_68pct"] = torch.quantile(torch.stack(squares).sum(0).sqrt(), SHARE)
    predicted, true = (to_xyz(torch.stack([pairs[n][k] for n in AXES], 1)) for k in (0, 1))
    found["cos_pos"] = torch.cosine_similarity(predicted, true, dim=1).mean()
    return found


def _energy(predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
    residual = predicted - true
    relative = residual / true
    return {
        "energy_res_68pct": half_width(residual),
        "energy_bias": residual.median(),
        "energy_rel_68pct": half_width(relative),
        "energy_rel_eff": effective_width(relative),
    }


def _direction(pairs: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    predicted, true = (torch.stack([pairs[n][k] for n in VECTOR], 1) for k in (0, 1))
    opening = opening_angle(predicted, true)
    found = {
        "angle_resolution_68pct": opening_quantile(opening),
        "cos": torch.deg2rad(opening).cos().mean(),
    }
    gap = emission_angles(predicted) - emission_angles(true)
    for name, error in (("theta", gap[:, 0]), ("phi", wrapped(gap[:, 1]))):
        pull = (error - error.mean()) / error.std(correction=0)  # not a number where all are equal
        found[f"{name}_bias"] = error.median()
        found[f"{name}_rms"] = error.std(correction=0)
        found[f"{name}_skew"] = pull.pow(3).mean()
    return found
