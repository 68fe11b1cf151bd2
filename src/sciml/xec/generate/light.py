"""Light that showers send to all sensors, expected numbers and times (j deposits)."""

import functools
import math

import numpy as np
from numpy.typing import NDArray

from sciml.xec.generate.shower import DEPOSITS, Gamma
from sciml.xec.physics.constants import (
    ACTIVE,
    ATTENUATION,
    INDEX,
    INNER,
    INNER_SHAPE,
    LIGHT,
    PMT_RADIUS,
    RADIUS,
    SENSORS,
    SHADOW_RADIUS,
    SIPM_SIDE,
)
from sciml.xec.physics.sensors import sensors
from sciml.xec.physics.solid_angle import rectangle

Floats = NDArray[np.floating]

PHOTON = 24e-6  # MeV of deposited energy a photon
YIELD_SPREAD = 0.012  # relative fluctuation of the number of photons that is common to all sensors
REFLECTED = 0.30  # share of the light that arrives diffusely
DIFFUSE_RANGE = 60.0  # cm
DIFFUSE_SIZE = 20.0  # cm, the distance below which diffuse light does not grow
DIFFUSE_TIME = (1.25, 2.0)  # its path in units of the direct one; ns in addition
SPEED = LIGHT / INDEX  # cm/ns

NEAR = 8.0  # cm, the distance below which a SiPM is a square rather than a point
SPHERE = 4 * math.pi


class LightModel:
    """Expected light of deposits at all sensors, ``model(places, photons, delays)``.

    Direct light is the share of the solid angle × ``1 - (1 - cos θ)⁵`` at the window ×
    ``exp(-Λ d)``; diffuse light depends on the distance only. An instance reuses its arrays, so it
    is not for several threads.

    Args:
        deposits: How many at a time.
        dtype: Precision; float32 is good to 1e-5 and takes two thirds of the time.
    """

    def __init__(self, deposits: int = DEPOSITS, dtype: type[np.floating] = np.float32) -> None:
        # each of 14 × 4760 numbers, few enough for the cache of a core
        arrays = [np.empty((deposits, SENSORS), dtype) for _ in range(6)]
        self._square, self._distance, self._cosine, self._direct, self._diffuse, self._work = arrays
        self._area = _areas().astype(dtype)
        self._dtype = dtype

    def __call__(self, places: Floats, photons: Floats, delays: Floats) -> tuple[Floats, Floats]:
        """Expected photons and the mean times of their arrival.

        Args:
            places: Of the deposits, in the xenon even where there are no photons, cm ``(j, 3)``.
            photons: Emitted by each ``(j,)``.
            delays: When, ns ``(j,)``.

        Returns:
            Photons ``(4760,)`` and, weighted by the light, their times in ns ``(4760,)``.
        """
        self._measure(places)
        self._fill_direct(places)
        self._fill_diffuse()
        weights, starts = (np.asarray(one, self._dtype)[:, None] for one in (photons, delays))
        direct, diffuse, both = self._direct, self._diffuse, self._work
        direct *= weights
        diffuse *= weights
        np.add(direct, diffuse, out=both)
        light = both.sum(0)
        both *= starts
        late = both.sum(0)
        stretch, extra = DIFFUSE_TIME
        late += extra * diffuse.sum(0)
        diffuse *= stretch
        direct += diffuse
        direct *= self._distance
        late += direct.sum(0) / SPEED
        late /= light
        return light, late

    def _measure(self, places: Floats) -> None:
        """Distances from the sensors, their squares, and cosines at the windows (0 behind)."""
        table, shape, dtype = sensors(), (len(places), *INNER_SHAPE), self._dtype
        x, y, z = (places[:, axis, None] for axis in range(3))
        # sensors in a row of the inner face share x and y, those in a column z
        rows, columns = slice(0, INNER, INNER_SHAPE[1]), slice(INNER_SHAPE[1])
        at, normal = table.position[rows].T, table.normal[rows].T
        flat = (x - at[0]) ** 2 + (y - at[1]) ** 2
        along = (z - table.position[columns, 2]) ** 2
        height = x * normal[0] + y * normal[1] - RADIUS
        square, cosine = (one[:, :INNER].reshape(shape) for one in (self._square, self._cosine))
        np.add(flat.astype(dtype)[:, :, None], along.astype(dtype)[:, None], out=square)
        cosine[...] = np.maximum(height, 0)[:, :, None]
        at, normal = table.position[INNER:].T, table.normal[INNER:].T
        x, y, z = x - at[0], y - at[1], z - at[2]
        self._square[:, INNER:] = x**2 + y**2 + z**2
        height = x * normal[0] + y * normal[1] + z * normal[2]
        self._cosine[:, INNER:] = np.where(_hidden(places), 0, np.maximum(height, 0))
        np.sqrt(self._square, out=self._distance)
        self._cosine /= self._distance

    def _fill_direct(self, places: Floats) -> None:
        """Direct light a photon."""
        direct, work = self._direct, self._work
        np.divide(self._cosine, self._square, out=direct)
        direct[:, :INNER] *= self._area[0]
        disc = PMT_RADIUS**2 * direct[:, INNER:]
        # half of 1 - 1/√(1 + x), without the cancellation
        direct[:, INNER:] = disc / (2 * (1 + disc + np.sqrt(1 + disc)))
        _fill_near(direct, self._square, self._cosine, places)
        np.multiply(self._distance, -ATTENUATION, out=work)
        direct *= np.exp(work, out=work)
        fifth = self._diffuse
        np.subtract(1, self._cosine, out=work)
        np.multiply(work, work, out=fifth)
        fifth *= fifth
        fifth *= work
        direct *= np.subtract(1, fifth, out=fifth)

    def _fill_diffuse(self) -> None:
        """Diffuse light a photon."""
        diffuse, work = self._diffuse, self._work
        np.multiply(self._distance, -1 / DIFFUSE_RANGE, out=diffuse)
        np.exp(diffuse, out=diffuse)
        diffuse *= REFLECTED * self._area
        diffuse /= np.add(self._square, DIFFUSE_SIZE**2, out=work)


def expected_light(gamma: Gamma, model: LightModel, scale: float = 1.0) -> tuple[Floats, Floats]:
    """Photons that the shower of a gamma sends to the sensors.

    Args:
        gamma: The gamma.
        model: Of the light.
        scale: Photons in units of the mean yield.

    Returns:
        Expected photons ``(4760,)`` and their mean times after the interaction in ns ``(4760,)``.
    """
    return model(gamma.places, scale / PHOTON * gamma.deposits, gamma.delays)


def _fill_near(direct: Floats, square: Floats, cosine: Floats, places: Floats) -> None:
    """Replace the direct light of SiPMs so near that their size matters."""
    near = (square[:, :INNER] < NEAR**2) & (cosine[:, :INNER] > 0)
    deposit, sensor = np.divmod(np.flatnonzero(near), INNER)
    table = sensors()
    normal, step = table.normal[sensor], places[deposit] - table.position[sensor]
    height = step[:, 0] * normal[:, 0] + step[:, 1] * normal[:, 1]
    across = step[:, 0] * normal[:, 1] - step[:, 1] * normal[:, 0]
    half = SIPM_SIDE / 2
    width = (across - half, across + half)
    length = (step[:, 2] - half, step[:, 2] + half)
    direct[deposit, sensor] = ACTIVE * rectangle(width, length, height)


def _hidden(places: Floats) -> NDArray[np.bool_]:
    """Whether the inner cylinder is between places outside it and the photomultipliers.

    It is when their directions from the axis differ by more than the two tangents reach around.
    """
    radius, angle = np.hypot(places[:, 0], places[:, 1]), np.arctan2(places[:, 1], -places[:, 0])
    reach, at = _tangents()
    return np.abs(angle[:, None] - at) > np.arccos(SHADOW_RADIUS / radius)[:, None] + reach


@functools.cache
def _tangents() -> tuple[Floats, Floats]:
    """Angle between each photomultiplier and its tangent to the cylinder, and its own angle."""
    x, y = sensors().position[INNER:, :2].T
    return np.arccos(SHADOW_RADIUS / np.hypot(x, y)), np.arctan2(y, -x)


@functools.cache
def _areas() -> Floats:
    """Area of every sensor over 4 pi, cm²."""
    return np.where(sensors().pmt, math.pi * PMT_RADIUS**2, ACTIVE * SIPM_SIDE**2) / SPHERE
