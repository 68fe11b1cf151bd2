"""Elliptic integrals and the arctangent, in double precision and in exported programs too."""

from typing import cast

import numpy as np
import torch
from scipy.special import elliprf, elliprj
from torch import Tensor

from sciml.xec.physics.arrays import Array

DUPLICATIONS = 7  # the spread of the arguments is then below 1e-3, its eighth power is left
HALVINGS = 4  # an angle halved four times is below pi/32
TERMS = 8  # of the series of a tangent below 0.1, for 16 digits


def carlson(y: Array, p: Array) -> tuple[Array, Array]:
    """Carlson's integrals ``R_F(0, y, 1)`` and ``R_J(0, y, 1, p)``.

    Args:
        y: float64, in (0, 1].
        p: float64, in (0, y], same shape.

    Returns:
        Both, same shape.

    Source:
        B. C. Carlson, Numerical Algorithms 10, 13 (1995); for tensors with a fixed number of
        steps, so that they can be differentiated and exported.
    """
    if isinstance(y, Tensor):
        return _duplicated(y, p)
    return elliprf(0.0, y, 1.0), elliprj(0.0, y, 1.0, p)


def arctangent(tangent: Array) -> Array:
    """The angle in radians; in exported programs with elementary operations only.

    onnxruntime has no arctangent in double precision.

    Args:
        tangent: float64, below 1e150.

    Returns:
        Same shape.
    """
    if not isinstance(tangent, Tensor):
        return cast(Array, np.atan(tangent))
    if not torch.compiler.is_compiling():
        return torch.atan(tangent)
    for _ in range(HALVINGS):
        tangent = tangent / (1 + torch.sqrt(1 + tangent**2))
    return float(2**HALVINGS) * tangent * _series(tangent**2)


def _duplicated(y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Carlson's duplication theorem until his arguments nearly agree, then a series."""
    x, z = torch.zeros_like(y), torch.ones_like(y)
    mean_f, mean_j = (x + y + z) / 3, (x + y + z + 2 * p) / 5
    spread = p * (p - y) * (p - z)
    total, scale = torch.zeros_like(y), 1.0
    for _ in range(DUPLICATIONS):
        a, b, c, d = x.sqrt(), y.sqrt(), z.sqrt(), p.sqrt()
        step = a * b + b * c + c * a
        width = (d + a) * (d + b) * (d + c)
        total = total + scale / width * _ratio(scale**3 * spread / width**2)
        x, y, z, p = ((value + step) / 4 for value in (x, y, z, p))
        mean_f, mean_j = (mean_f + step) / 4, (mean_j + step) / 4
        scale /= 4
    rest = _rest_of_third(1 - x / mean_j, 1 - y / mean_j, 1 - z / mean_j)
    third = 6 * total + scale * mean_j**-1.5 * rest
    return mean_f.rsqrt() * _rest_of_first(1 - x / mean_f, 1 - y / mean_f), third


def _rest_of_first(x: Tensor, y: Tensor) -> Tensor:
    """Equation 19.36.1 of the Digital Library of Mathematical Functions."""
    z = -x - y
    e2, e3 = x * y - z**2, x * y * z
    low = 1 - e2 / 10 + e3 / 14 + e2**2 / 24 - 3 * e2 * e3 / 44
    return low - 5 * e2**3 / 208 + 3 * e3**2 / 104 + e2**2 * e3 / 16


def _rest_of_third(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Equation 19.36.2, up to the fifth order."""
    p, xyz = -(x + y + z) / 2, x * y * z
    e2 = x * y + y * z + z * x - 3 * p**2
    e3 = xyz + 2 * e2 * p + 4 * p**3
    e4 = (2 * xyz + e2 * p + 3 * p**3) * p
    e5 = xyz * p**2
    even = 1 - 3 * e2 / 14 + 9 * e2**2 / 88 - 3 * e4 / 22
    return even + e3 / 6 - 9 * e2 * e3 / 52 + 3 * e5 / 26


def _ratio(square: Tensor) -> Tensor:
    """``atan(s)/s`` of the square of s, also where its root has no derivative."""
    small = square < 1e-2
    root = torch.where(small, torch.ones_like(square), square).sqrt()
    return torch.where(small, _series(square), arctangent(root) / root)


def _series(square: Tensor) -> Tensor:
    """``1 - s²/3 + s⁴/5 ...`` of the square of s."""
    total = torch.zeros_like(square)
    for term in range(TERMS - 1, -1, -1):
        total = 1 / (2 * term + 1) - square * total
    return total
