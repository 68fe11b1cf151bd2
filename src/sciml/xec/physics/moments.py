"""Centroids and widths of the light around the brightest place (b events, m moments).

One centroid is far from the first interaction in an amount that depends on the depth and on the
shower. A linear function of several, whose factors depend on the widths, is nearer by a half; the
widths themselves tell the depth.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from sciml.xec.physics.constants import INNER_PITCH, RADIUS
from sciml.xec.physics.windows import HALF, SIZE, cut

POWERS = (0.5, 1.0, 1.5, 2.0, 3.0)
"""Of the photons, the weights of a centroid."""
RADII = (4.0, 7.0, 15.0)  # cm around the brightest sensor
COUNT = len(POWERS) * len(RADII)  # m, all powers of the first radius first
FACTORS = (6, 8, 12)  # moments whose widths the factors of the centroids depend on
DEPTHS = (2, 6, 8, 11, 13)  # moments whose widths enter the depth as products
TYPICAL = 3.0  # cm, sum of both widths
NARROWEST = 0.1  # cm
PLACE_TERMS = COUNT * (1 + len(FACTORS) + len(FACTORS) * (len(FACTORS) + 1) // 2)
DEPTH_TERMS = 1 + COUNT + len(DEPTHS) * (len(DEPTHS) + 1) // 2
PITCH = (INNER_PITCH[1], RADIUS * math.radians(INNER_PITCH[0]))  # cm, in u and in v


class Moments(NamedTuple):
    """Centroids and widths for `RADII` and `POWERS`.

    Args:
        centre: u and v after the brightest sensor in cm, ``(b, m, 2)``.
        width: Standard deviations along u and v in cm, ``(b, m, 2)``.
    """

    centre: Tensor
    width: Tensor


def moments(light: Tensor, alive: Tensor, place: Tensor) -> Moments:
    """Moments of the inner face; a dead sensor counts as the mean of its live neighbours.

    Args:
        light: Photons, ``(b, 4092)``.
        alive: Sensors with a count, bool ``(b, 4092)``.
        place: Row and column of the brightest place, int64 ``(b, 2)``.
    """
    live = alive.to(light.dtype)
    numbers = torch.stack([light.clamp(min=0) * live, live, torch.ones_like(live)], 1)
    photons, live, inside = cut(numbers, place).split(1, 1)
    kernel = photons.new_ones(1, 1, 3, 3)
    mean = conv2d(photons, kernel, padding=1) / conv2d(live, kernel, padding=1).clamp(min=1)
    filled = torch.where(live > 0, photons, inside * mean).flatten(1)
    share = filled / filled.amax(1, keepdim=True).clamp(min=torch.finfo(light.dtype).tiny)
    root = share.sqrt()
    powers = torch.stack([root, share, share * root, share**2, share**3], 1)
    du, dv, near = _grid(light)
    table = torch.stack([torch.ones_like(du), du, dv, du**2, dv**2], 1)
    weights = (powers[:, None] * near[:, None]).flatten(1, 2)  # (b, m, 400)
    sums = weights @ table
    mean_of = sums[..., 1:] / sums[..., :1].clamp(min=torch.finfo(light.dtype).tiny)
    centre, square = mean_of.split(2, -1)
    return Moments(centre, (square - centre.square()).clamp(min=0).sqrt())


def place_terms(found: Moments, centroid: Tensor) -> Tensor:
    """What a linear estimate of u and v is made of, ``(b, 2, PLACE_TERMS)``.

    Each is a centroid, times products of widths; all change their sign in a mirror.

    Args:
        found: Of the events.
        centroid: u and v after the brightest sensor in cm that the estimate corrects, ``(b, 2)``.
    """
    shift = (found.centre - centroid[:, None]).transpose(1, 2)
    wide = found.width[:, FACTORS].sum(-1) - TYPICAL
    factors = torch.cat([torch.ones_like(wide[:, :1]), wide, _products(wide)], 1)
    return (shift[..., None] * factors[:, None, None]).flatten(2)


def depth_terms(found: Moments) -> Tensor:
    """What a linear estimate of ln(w + 0.5 cm) is made of, ``(b, DEPTH_TERMS)``.

    Args:
        found: Of the events.
    """
    wide = found.width.mean(-1).clamp(min=NARROWEST).log()
    return torch.cat([torch.ones_like(wide[:, :1]), wide, _products(wide[:, DEPTHS])], 1)


def _products(values: Tensor) -> Tensor:
    """All products of two columns, ``(b, k (k + 1) / 2)``."""
    first, second = torch.triu_indices(values.shape[1], values.shape[1], device=values.device)
    return values[:, first] * values[:, second]


def _grid(like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U and v of the sensors of a window ``(400,)``, and which are within each radius."""
    steps = torch.arange(-HALF, SIZE - HALF, device=like.device).to(like.dtype)
    du = (PITCH[0] * steps).expand(SIZE, SIZE).flatten()
    dv = (-PITCH[1] * steps)[:, None].expand(SIZE, SIZE).flatten()  # v falls with the row
    radii = torch.tensor(RADII, device=like.device).to(like.dtype)
    near = (du**2 + dv**2 < radii[:, None] ** 2).to(like.dtype)
    return du, dv, near
