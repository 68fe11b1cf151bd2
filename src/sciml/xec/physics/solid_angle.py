"""Solid angles of sensors in closed form, as fractions of the full sphere (n points, k sensors).

All is computed in double precision, and can be differentiated with respect to the points when
these are torch tensors.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from sciml.xec.physics.arrays import Array, constant, library, retyped
from sciml.xec.physics.constants import CHIP, CHIP_GAP, PMT_RADIUS, SENSORS, SHADOW_RADIUS
from sciml.xec.physics.elliptic import arctangent, carlson
from sciml.xec.physics.sensors import sensors

Floats = NDArray[np.float64]
SPHERE = 4 * math.pi
CHIP_EDGES = (-CHIP_GAP / 2 - CHIP, -CHIP_GAP / 2, CHIP_GAP / 2, CHIP_GAP / 2 + CHIP)
RIM = 1e-9  # relative distance from the rim of a disc that counts as none
TINY = 1e-24  # keeps roots and their derivatives finite


def sensor_solid_angles(
    points: Array, ids: Sequence[int] | NDArray[np.integer] | None = None, *, shadow: bool = True
) -> Array:
    """Fraction of the light emitted at points that reaches the active areas of sensors directly.

    Zero where the point is behind the plane of the sensor.

    Args:
        points: cm, ``(n, 3)``.
        ids: Sensors; all by default.
        shadow: Whether the inner cylinder hides photomultipliers.

    Returns:
        Of the type of the points, ``(n, k)``.
    """
    xp = library(points)
    chosen = np.arange(SENSORS) if ids is None else np.asarray(ids, dtype=np.int64)
    double = _double(points)
    pmt = sensors().pmt[chosen]
    parts = [_chips(double, chosen[~pmt]), _cathodes(double, chosen[pmt], shadow=shadow)]
    order = np.argsort(np.argsort(pmt, kind="stable"))
    fraction: Array = retyped(xp.concat(parts, -1)[:, order], points.dtype)
    return fraction


def rectangle(x: tuple[Array, Array], y: tuple[Array, Array], height: Array) -> Array:
    """Fraction of the sphere that a rectangle covers, seen from the origin.

    Args:
        x: Lower and upper edge in cm, relative to the foot of the perpendicular, ``(...)`` each.
        y: The same along the other side.
        height: Distance from the plane of the rectangle in cm, positive, ``(...)``.

    Returns:
        ``(...)``.
    """
    upper = _corner(x[1], y[1], height) - _corner(x[0], y[1], height)
    lower = _corner(x[1], y[0], height) - _corner(x[0], y[0], height)
    fraction: Array = upper - lower
    return retyped(fraction, height.dtype)


def disc(radius: float, height: Array, distance: Array) -> Array:
    """Fraction of the sphere that a disc covers.

    Args:
        radius: cm.
        height: Distance of the point from the plane of the disc in cm, positive, ``(...)``.
        distance: Distance of the point from the axis of the disc in cm, ``(...)``.

    Returns:
        ``(...)``.

    Source:
        F. Paxton, Review of Scientific Instruments 30, 254 (1959), with elliptic integrals in
        Carlson's forms, which need no other treatment near the rim.
    """
    xp = library(height)
    dtype, height, distance = height.dtype, _double(height), _double(distance)
    gap = (distance - radius) / (distance + radius)
    gap = xp.where(abs(gap) < RIM, xp.zeros_like(gap), gap)
    far = xp.sqrt(height**2 + (distance + radius) ** 2)
    remainder = (height**2 + (distance - radius) ** 2) / far**2  # 1 - k²
    first, third = carlson(xp.clip(remainder, RIM**2, None), xp.clip(gap**2, RIM**2, None))
    third = first + (1 - gap**2) / 3 * third  # Legendre's integral
    flat = math.pi * (1 - xp.sign(gap))
    fraction: Array = (flat + 2 * height / far * (gap * third - first)) / SPHERE
    return retyped(fraction, dtype)


def shadowed(points: Array, positions: Array) -> Array:
    """Whether the inner cylinder lies between points and sensors.

    Args:
        points: cm, ``(n, 3)``.
        positions: Of the sensors in cm, ``(k, 3)``.

    Returns:
        bool ``(n, k)``.
    """
    xp = library(points)
    start, step = points[:, None, :2], positions[None, :, :2] - points[:, None, :2]
    length = xp.clip((step**2).sum(-1), TINY, None)
    nearest = xp.clip(-(start * step).sum(-1) / length, 0.0, 1.0)
    place = start + nearest[..., None] * step
    return cast(Array, (place**2).sum(-1) < SHADOW_RADIUS**2)


def _double(values: Array) -> Array:
    wide: Array = retyped(values, library(values).float64)
    return wide


def _corner(x: Array, y: Array, height: Array) -> Array:
    xp = library(height)
    x, y, height = _double(x), _double(y), _double(height)
    across = xp.sqrt(x**2 + y**2 + height**2)
    fraction: Array = arctangent(x * y / (height * across)) / SPHERE
    return fraction


def _chips(points: Array, ids: NDArray[np.int64]) -> Array:
    """The four chips of silicon photomultipliers, ``(n, k)``."""
    xp = library(points)
    across, along, height = (_component(points, ids, axes) for axes in (*_axes(), sensors().normal))
    above = xp.where(height > 0, height, xp.ones_like(height))
    total = xp.zeros_like(height)
    # edges alternate between the beginning and the end of a chip: 16 corners, not 4 for each
    for (i, x), (j, y) in itertools.product(enumerate(CHIP_EDGES), repeat=2):
        total = total + (-1) ** (i + j) * _corner(x - across, y - along, above)
    return cast(Array, xp.where(height > 0, total, xp.zeros_like(total)))


def _cathodes(points: Array, ids: NDArray[np.int64], *, shadow: bool) -> Array:
    """The photocathodes of photomultipliers, ``(n, k)``."""
    xp = library(points)
    position = constant(sensors().position[ids], points)
    height = _component(points, ids, sensors().normal)
    square = ((points[:, None] - position) ** 2).sum(-1) - height**2
    distance = xp.sqrt(xp.clip(square, TINY, None))
    seen = height > 0
    above = xp.where(seen, height, xp.ones_like(height))
    if shadow:
        seen = seen & ~shadowed(points, position)
    fraction = disc(PMT_RADIUS, above, distance)
    return cast(Array, xp.where(seen, fraction, xp.zeros_like(fraction)))


@functools.cache
def _axes() -> tuple[Floats, Floats]:
    """Directions of the sides of every sensor, ``(4760, 3)`` each."""
    normal = sensors().normal
    along = np.cross([0.0, 0.0, 1.0], normal)
    along = along / np.linalg.norm(along, axis=1, keepdims=True)
    return np.cross(along, normal), along


def _component(points: Array, ids: NDArray[np.int64], axes: Floats) -> Array:
    """Places of points relative to sensors along an axis of each, ``(n, k)``."""
    axis = constant(axes[ids], points)
    middle = constant((sensors().position[ids] * axes[ids]).sum(1), points)
    projected: Array = points @ axis.T - middle
    return projected
