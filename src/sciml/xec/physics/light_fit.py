"""The place a gamma's light came from, by a fit of the photons on the inner face.

Sizes: b events, k sensors around the brightest one.
"""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from sciml.xec.physics.anchors import Anchors
from sciml.xec.physics.arrays import constant
from sciml.xec.physics.constants import (
    ACTIVE,
    ATTENUATION,
    INNER,
    INNER_PITCH,
    INNER_SHAPE,
    RADIUS,
    SIPM_EFFICIENCY,
    SIPM_SIDE,
)
from sciml.xec.physics.coordinates import to_uvw
from sciml.xec.physics.sensors import sensors

STARTS = (1.5, 4.0, 9.0, 18.0)  # cm, depths that a fit of the light begins with
REGION = (6.0, 0.8)  # radius of the sensors that are fitted: cm, and cm for each cm of depth
DEPTHS = (0.1, 41.0)  # cm, least and largest depth
REACH = 6.0  # cm in u and in v between the fitted place and the brightest sensor
EXCESS = 1.35  # variance of a SiPM's charge for each photo-electron
ELECTRONIC = 1.5  # photo-electrons, its noise without light
ROUGH = 0.05  # relative error of one point of light in place of a shower
STEPS = 12  # of a fit, accepted or not
LARGEST = (3.0, 0.7)  # of a step: cm in u and v, and of the logarithm of the depth
DAMPING = (1e-2, 0.2, 5.0)  # at first, factor after a step that helps, and after one that does not
TINY = 1e-30


class LightFit(NamedTuple):
    """A point of light and a constant, fitted to the inner face.

    Args:
        uvw: Where, cm ``(b, 3)``.
        amplitude: Photons that the point emits ``(b,)``.
        constant: Photons on every SiPM in addition ``(b,)``.
        misfit: Weighted sum of squared residuals for each degree of freedom ``(b,)``.
    """

    uvw: Tensor
    amplitude: Tensor
    constant: Tensor
    misfit: Tensor


def fit_light(anchors: Anchors) -> LightFit:
    """Weighted least squares of the photons on SiPMs around the brightest one, float64.

    ``n = A light(u, v, w) + c`` with `direct_light`, by damped Gauss-Newton steps in u, v and
    ln w; A and c follow from these in closed form. A start at a depth w takes the sensors within
    6 + 0.8 w cm. Of several, that one counts whose depth changed least, by factor: its sensors
    are those that its depth asks for.

    Args:
        anchors: Cheap estimates of the same events.

    Source:
        G. H. Golub and V. Pereyra, SIAM Journal on Numerical Analysis 10, 413 (1973), for the
        elimination of A and c.
    """
    fits = [_fit(anchors, depth) for depth in STARTS]  # few, each with a region of its own size
    turns = [(one.uvw[:, 2] / depth).log().abs() for one, depth in zip(fits, STARTS, strict=True)]
    chosen = torch.stack(turns).argmin(0)
    events = torch.arange(len(chosen), device=chosen.device)
    parts = (torch.stack(values)[chosen, events] for values in zip(*fits, strict=True))
    return LightFit(*parts)


def fitted_light(fit: LightFit) -> Tensor:
    """Photons that a fit expects on the inner face, ``(b, 4092)``.

    They are good near the place; the constant is that of the sensors around it.

    Args:
        fit: Of the events.
    """
    light, _ = direct_light(fit.uvw, _inner_uv(fit.uvw).expand(len(fit.uvw), -1, -1))
    return fit.amplitude[:, None] * light + fit.constant[:, None]


def direct_light(uvw: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Share of the photons from a point that SiPMs receive directly, and its derivatives.

    ``Ω/4π (1 - (1 - cos θ)⁵) exp(-Λ d)`` with the exact solid angle of a square as large as the
    four chips and the gaps between them, times the share of it that sees light.

    Args:
        uvw: Of the points in cm, w positive, ``(b, 3)``.
        places: u and v of SiPMs in cm, ``(b, k, 2)``.

    Returns:
        ``(b, k)``, and by u, v and w in 1/cm ``(b, k, 3)``; zero for points behind a SiPM.
    """
    radius = (RADIUS + uvw[:, 2])[:, None]
    angle = (uvw[:, 1, None] - places[..., 1]) / RADIUS
    sine, cosine = angle.sin(), angle.cos()
    # the point as the sensor sees it: across and along its square, and above it
    across, along = radius * sine, uvw[:, 0, None] - places[..., 0]
    height = radius * cosine - RADIUS
    seen = height > 0
    height = torch.where(seen, height, torch.ones_like(height))
    solid, solid_slope = _square(across, along, height)
    distance = (across**2 + along**2 + height**2).sqrt()
    slant = height / distance
    window = 1 - (1 - slant) ** 5
    dimming = torch.where(seen, ACTIVE * torch.exp(-ATTENUATION * distance), 0.0)
    light = solid * window * dimming
    steep = 5 * (1 - slant) ** 4 * solid * dimming / distance
    shrink = ATTENUATION * light + steep * slant
    gradient = [
        slope * window * dimming - shrink * step / distance
        for slope, step in zip(solid_slope, (across, along, height), strict=True)
    ]
    by_across, by_along, by_height = gradient[0], gradient[1], gradient[2] + steep
    by_w = by_across * sine + by_height * cosine
    by_v = (by_across * cosine - by_height * sine) * radius / RADIUS
    return light, torch.stack([by_along, by_v, by_w], -1)


class _Region(NamedTuple):
    """Sensors of a fit: u and v of the brightest one ``(b, 2)``, and of k around it."""

    centre: Tensor
    places: Tensor
    light: Tensor
    weight: Tensor


class _Trial(NamedTuple):
    """A place, what follows from it, and how the weighted residuals change with u, v and ln w."""

    uvw: Tensor
    amplitude: Tensor
    constant: Tensor
    residual: Tensor
    slope: Tensor
    misfit: Tensor


def _fit(anchors: Anchors, depth: float) -> LightFit:
    region = _region(anchors, REGION[0] + REGION[1] * depth)
    start = torch.cat([anchors.uv, torch.full_like(anchors.uv[:, :1], depth)], 1).double()
    best = _try(start, region)
    damping = torch.full_like(best.misfit, DAMPING[0])
    for _ in range(STEPS):
        trial = _try(_next(best, damping, region), region)
        better = trial.misfit < best.misfit
        damping = damping * torch.where(better, DAMPING[1], DAMPING[2])
        best = _Trial(*(_where(better, *pair) for pair in zip(trial, best, strict=True)))
    free = ((region.weight > 0).sum(1) - 5).clamp(min=1)
    return LightFit(best.uvw, best.amplitude, best.constant, best.misfit / free)


def _region(anchors: Anchors, radius: float) -> _Region:
    rows, columns = INNER_SHAPE
    half = math.ceil(radius / min(INNER_PITCH[1], RADIUS * math.radians(INNER_PITCH[0])))
    around = torch.arange(-half, half + 1, device=anchors.place.device)
    row, col = anchors.place[:, :1] + around, anchors.place[:, 1:] + around
    inside = ((row >= 0) & (row < rows))[:, :, None] & ((col >= 0) & (col < columns))[:, None]
    ids = row.clamp(0, rows - 1)[:, :, None] * columns + col.clamp(0, columns - 1)[:, None]
    ids = ids.flatten(1)
    table = _inner_uv(anchors.uv.double())
    centre, places = table[anchors.place[:, 0] * columns + anchors.place[:, 1]], table[ids]
    used = ((places - centre[:, None]) ** 2).sum(-1) < radius**2
    used &= inside.flatten(1) & anchors.alive.gather(1, ids)
    light = anchors.light.gather(1, ids).double()
    charge = EXCESS * SIPM_EFFICIENCY * light.clamp(min=0) + ELECTRONIC**2
    variance = charge / SIPM_EFFICIENCY**2 + (ROUGH * light) ** 2
    return _Region(centre, places, light, torch.where(used, 1 / variance, 0.0))


def _try(uvw: Tensor, region: _Region) -> _Trial:
    """Best amplitude and constant for a place: all is taken relative to weighted means."""
    light, gradient = direct_light(uvw, region.places)
    gradient = torch.cat([gradient[..., :2], uvw[:, None, 2:] * gradient[..., 2:]], -1)  # by ln w
    share = (region.weight / region.weight.sum(1, keepdim=True).clamp(min=TINY))[..., None]
    numbers = torch.cat([region.light[..., None], light[..., None], gradient], -1)
    mean = (share * numbers).sum(1)
    photons, shape, slope = (numbers - mean[:, None]).split([1, 1, 3], -1)
    weighted = region.weight[..., None] * shape
    square = (weighted * shape).sum(1).clamp(min=TINY)
    amplitude = (weighted * photons).sum(1) / square
    slope = amplitude[:, None] * (slope - shape * ((weighted * slope).sum(1) / square)[:, None])
    residual = (photons - amplitude[:, None] * shape)[..., 0]
    constant = mean[:, 0] - amplitude[:, 0] * mean[:, 1]
    misfit = (region.weight * residual**2).sum(1)
    return _Trial(uvw, amplitude[:, 0], constant, residual, slope, misfit)


def _next(trial: _Trial, damping: Tensor, region: _Region) -> Tensor:
    """The place after a damped step that stays within the bounds."""
    weighted = region.weight[..., None] * trial.slope
    curvature = weighted.transpose(1, 2) @ trial.slope
    downhill = (weighted * trial.residual[..., None]).sum(1)
    own = curvature.diagonal(dim1=1, dim2=2)
    floor = 1e-9 * own.amax(1, keepdim=True) + TINY
    damped = curvature + torch.diag_embed(damping[:, None] * own + floor)
    step = torch.linalg.solve(damped, downhill)
    uv = trial.uvw[:, :2] + step[:, :2].clamp(-LARGEST[0], LARGEST[0])
    uv = region.centre + (uv - region.centre).clamp(-REACH, REACH)
    w = trial.uvw[:, 2:] * step[:, 2:].clamp(-LARGEST[1], LARGEST[1]).exp()
    return torch.cat([uv, w.clamp(*DEPTHS)], 1)


def _square(across: Tensor, along: Tensor, height: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Solid angle over 4π of a square as large as a SiPM, and its derivatives by the place."""
    solid = torch.zeros_like(height)
    slopes = [torch.zeros_like(height) for _ in range(3)]
    square = height**2
    for (i, first), (j, second) in itertools.product(
        enumerate((-SIPM_SIDE / 2, SIPM_SIDE / 2)), repeat=2
    ):
        x, y = across + first, along + second
        x2, y2 = x**2 + square, y**2 + square
        root = (x2 + y**2).sqrt()
        sign = (-1) ** (i + j) / (4 * math.pi)
        solid = solid + sign * torch.atan(x * y / (height * root))
        slopes[0] = slopes[0] + sign * height * y / (x2 * root)
        slopes[1] = slopes[1] + sign * height * x / (y2 * root)
        slopes[2] = slopes[2] - sign * x * y * (x2 + y2) / (x2 * y2 * root)
    return solid, slopes


def _inner_uv(like: Tensor) -> Tensor:
    return constant(to_uvw(sensors().position[:INNER])[:, :2], like)


def _where(condition: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(condition.reshape(-1, *[1] * (new.dim() - 1)), new, old)
