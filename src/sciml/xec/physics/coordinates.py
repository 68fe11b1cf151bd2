"""Detector coordinates and emission angles; each function takes numpy arrays or torch tensors.

Square roots stand where ``hypot`` would do: exported programs have none.

Local coordinates of a place are u along z, v along the inner surface and the depth w behind it:
``u = z, v = R alpha, w = r - R`` with the angle alpha from the -x axis towards +y.
"""

import math
from typing import cast

from sciml.xec.physics.arrays import Array, library
from sciml.xec.physics.constants import (
    FIDUCIAL,
    HALF_ANGLE,
    HALF_LENGTH,
    OUTER_RADIUS,
    RADIUS,
    SIDE_SLOPE,
    SPACER_RADIUS,
)

DEGREE = 180 / math.pi  # degrees in a radian


def to_uvw(xyz: Array) -> Array:
    """Local coordinates of places.

    Args:
        xyz: cm, ``(..., 3)``.

    Returns:
        u, v and w in cm, ``(..., 3)``.
    """
    xp = library(xyz)
    x, y, z = xyz[..., 0], xyz[..., 1], xyz[..., 2]
    return cast(Array, xp.stack([z, RADIUS * xp.atan2(y, -x), xp.sqrt(x**2 + y**2) - RADIUS], -1))


def to_xyz(uvw: Array) -> Array:
    """Places of local coordinates: ``x = -(w + R) cos(v/R), y = (w + R) sin(v/R), z = u``.

    Args:
        uvw: cm, ``(..., 3)``.

    Returns:
        x, y and z in cm, ``(..., 3)``.
    """
    xp = library(uvw)
    alpha, radius = uvw[..., 1] / RADIUS, uvw[..., 2] + RADIUS
    return cast(Array, xp.stack([-radius * xp.cos(alpha), radius * xp.sin(alpha), uvw[..., 0]], -1))


def emission_angles(direction: Array) -> Array:
    """Polar angle theta to the z axis and azimuth phi from the -x axis towards +y.

    Args:
        direction: Vectors of any length but 0, ``(..., 3)``.

    Returns:
        theta in [0, 180] and phi in (-180, 180] degrees, ``(..., 2)``.
    """
    xp = library(direction)
    x, y, z = direction[..., 0], direction[..., 1], direction[..., 2]
    # not acos(z), which loses half of the digits near the axis
    return cast(Array, xp.stack([xp.atan2(xp.sqrt(x**2 + y**2), z), xp.atan2(y, -x)], -1) * DEGREE)


def emission_direction(angles: Array) -> Array:
    """Unit vectors ``(-sin(theta) cos(phi), sin(theta) sin(phi), cos(theta))``.

    Args:
        angles: theta and phi in degrees, ``(..., 2)``.

    Returns:
        ``(..., 3)``.
    """
    xp = library(angles)
    theta, phi = angles[..., 0] / DEGREE, angles[..., 1] / DEGREE
    across = xp.sin(theta)
    return cast(Array, xp.stack([-across * xp.cos(phi), across * xp.sin(phi), xp.cos(theta)], -1))


def opening_angle(a: Array, b: Array) -> Array:
    """Angle between directions, ``atan2(|a x b|, a b)``, accurate also near 0 and 180 degrees.

    Args:
        a: Vectors of any length but 0, ``(..., 3)``.
        b: The others, same shape.

    Returns:
        Degrees, ``(...)``.
    """
    xp = library(a)
    across = xp.linalg.vector_norm(xp.linalg.cross(a, b), axis=-1)
    return cast(Array, xp.atan2(across, (a * b).sum(-1)) * DEGREE)


def local_frame(uvw: Array) -> Array:
    """Directions in which w, v and u grow at a place.

    The three are orthonormal and, in this order, left-handed.

    Args:
        uvw: Local coordinates in cm, ``(..., 3)``.

    Returns:
        Rows e_r (outwards), e_v and e_z as vectors of x, y and z, ``(..., 3, 3)``.
    """
    xp = library(uvw)
    alpha = uvw[..., 1] / RADIUS
    zero, one = xp.zeros_like(alpha), xp.ones_like(alpha)
    cosine, sine = xp.cos(alpha), xp.sin(alpha)
    rows = ([-cosine, sine, zero], [sine, cosine, zero], [zero, zero, one])
    return cast(Array, xp.stack([xp.stack(row, -1) for row in rows], -2))


def in_fiducial(uvw: Array, depth: float | None = None) -> Array:
    """Whether places are in the fiducial volume, where reconstruction is judged.

    Args:
        uvw: Local coordinates in cm, ``(..., 3)``.
        depth: Largest w in cm; by default there is none.

    Returns:
        bool ``(...)``.
    """
    u, v, w = abs(uvw[..., 0]), abs(uvw[..., 1]), uvw[..., 2]
    inside: Array = (u < FIDUCIAL[0]) & (v < FIDUCIAL[1]) & (w >= 0)
    return inside if depth is None else inside & (w <= depth)


def in_volume(xyz: Array) -> Array:
    """Whether places are in the active xenon.

    Args:
        xyz: cm, ``(..., 3)``.

    Returns:
        bool ``(...)``.
    """
    xp = library(xyz)
    x, y, z = xyz[..., 0], xyz[..., 1], xyz[..., 2]
    radius = xp.sqrt(x**2 + y**2)
    side = HALF_LENGTH + SIDE_SLOPE * (radius - SPACER_RADIUS)
    inside = (radius > RADIUS) & (radius < OUTER_RADIUS) & (abs(z) < side)
    return cast(Array, inside & (abs(xp.atan2(y, -x)) < HALF_ANGLE / DEGREE))
