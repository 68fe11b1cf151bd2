"""Real spherical harmonics as polynomials of a unit vector."""

import math

import torch
from torch import Tensor

MAX_ELL = 3
_SQRT3, _SQRT5, _SQRT7 = math.sqrt(3), math.sqrt(5), math.sqrt(7)
_SQRT15, _SQRT105 = math.sqrt(15), math.sqrt(105)
_SQRT35_8, _SQRT21_8 = math.sqrt(35 / 8), math.sqrt(21 / 8)


def spherical_harmonics(vectors: Tensor, max_ell: int) -> Tensor:
    """Real spherical harmonics with polar axis y, ``Σ_m Y_lm² = 2l + 1``.

    The order and the signs are those of e3nn; the degree 1 is the vector itself times √3.

    Args:
        vectors: Unit vectors, shape ``(..., 3)``.
        max_ell: Largest degree, 0 to 3.

    Returns:
        All degrees 0…max_ell after each other, shape ``(..., (max_ell + 1)²)``.

    Raises:
        ValueError: If the degree is not one of 0 to 3.
    """
    if not 0 <= max_ell <= MAX_ELL:
        raise ValueError(f"spherical harmonics of degree {max_ell}: max_ell is 0 to {MAX_ELL}")
    x, y, z = vectors.unbind(-1)
    components = [torch.ones_like(x)]
    if max_ell >= 1:
        components += [_SQRT3 * x, _SQRT3 * y, _SQRT3 * z]
    if max_ell >= 2:
        components += _degree_two(x, y, z)
    if max_ell >= 3:
        components += _degree_three(x, y, z)
    return torch.stack(components, dim=-1)


def _degree_two(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    xx, yy, zz = x * x, y * y, z * z
    return [
        _SQRT15 * x * z,
        _SQRT15 * x * y,
        _SQRT5 / 2 * (2 * yy - xx - zz),
        _SQRT15 * y * z,
        _SQRT15 / 2 * (zz - xx),
    ]


def _degree_three(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    xx, yy, zz = x * x, y * y, z * z
    equator = 4 * yy - xx - zz
    return [
        _SQRT35_8 * x * (3 * zz - xx),
        _SQRT105 * x * y * z,
        _SQRT21_8 * x * equator,
        _SQRT7 / 2 * y * (2 * yy - 3 * (xx + zz)),
        _SQRT21_8 * z * equator,
        _SQRT105 / 2 * y * (zz - xx),
        _SQRT35_8 * z * (zz - 3 * xx),
    ]
