"""Conventional estimates of a gamma, cheap enough to run inside a network (b events).

A network that predicts corrections to them has little left to learn, and follows a detector whose
gains or clock change. All is torch code without data-dependent shapes.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from sciml.xec.physics.constants import (
    FACES,
    INDEX,
    INNER,
    INNER_SHAPE,
    INVALID_FROM,
    LIGHT,
    PMT_EFFICIENCY,
    SIPM_EFFICIENCY,
)
from sciml.xec.physics.coordinates import to_uvw, to_xyz
from sciml.xec.physics.moments import (
    DEPTH_TERMS,
    PLACE_TERMS,
    Moments,
    depth_terms,
    moments,
    place_terms,
)
from sciml.xec.physics.sensors import sensors
from sciml.xec.physics.statistics import USUAL_LOG_DEPTH, EventStatistics

NEAR = 6.0  # cm in u and in v around the brightest sensor that the centroid is taken of
DEPTH = 3.0  # cm, where the light is taken to come from in the estimate of the time
FEWEST = 20.0  # photo-electrons of a sensor whose time counts in that estimate
NOISE = (49.0, 0.01)  # ns², variance of a time: a share per photo-electron, a constant
OUTLIER = 0.8  # ns, distance at which a time counts half
ROUNDS = 2  # of reweighting
FURTHEST = 5.0  # cm, largest correction of the centroid
DEPTH_OFFSET = 0.5  # cm added to a depth under the logarithm: shallow gammas do not rule it
LOG_DEPTHS = (-0.6, 3.75)  # 0.05 to 42 cm
LOWEST = 1e-3  # GeV, least estimate of the energy
NANO = 1e9  # ns in a second


class Anchors(NamedTuple):
    """Conventional estimates, and what they were made of.

    Args:
        alive: Sensors with a count, bool ``(b, 4760)``.
        light: Photons, 0 where there is no count, ``(b, 4760)``.
        timed: Sensors whose time counts, bool ``(b, 4760)``.
        late: Time of a sensor after what the estimates expect of it in ns, 0 where none counts,
            ``(b, 4760)``.
        place: Row and column of the brightest spot in the image of the inner face, int64
            ``(b, 2)``.
        uv: Centroid of the light around it in cm, ``(b, 2)``.
        spot: u and v in cm, the centroid corrected by what the moments of the light say,
            ``(b, 2)``.
        depth: w in cm, from the widths of the light, ``(b,)``.
        moments: Centroids and widths of the light.
        faces: Photons of every face, ``(b, 6)``.
        energy: GeV, ``(b,)``.
        time: Of the first interaction, after `time_min` of the batch, in ns, ``(b,)``.
    """

    alive: Tensor
    light: Tensor
    timed: Tensor
    late: Tensor
    place: Tensor
    uv: Tensor
    spot: Tensor
    depth: Tensor
    moments: Moments
    faces: Tensor
    energy: Tensor
    time: Tensor


class Conventional(nn.Module):
    """The estimates as a module, with the constants that they need.

    Position: centroid of ``n^1.5`` within 6 cm of the brightest 3 x 3 sensors of the inner face,
    and a linear function of more `Moments`, which gives the depth too. Energy: weighted sum over
    the faces. Time: mean of the sensors' times less those of flight from 3 cm behind the centroid
    and the delay of weak signals, weighted by the inverse variance, with outliers weighted down.

    Args:
        threshold: Photons a sensor needs for its time to count.
    """

    position: Tensor
    face: Tensor
    face_weights: Tensor
    walk: Tensor
    place: Tensor
    depth_line: Tensor

    def __init__(self, threshold: float = 10.0) -> None:
        super().__init__()
        self.threshold = threshold
        table = sensors()
        self.register_buffer("position", torch.tensor(table.position).float(), persistent=False)
        self.register_buffer("face", torch.tensor(table.face), persistent=False)
        self.register_buffer("face_weights", torch.full((len(FACES),), 1e-7))
        self.register_buffer("walk", torch.zeros(2))
        self.register_buffer("place", torch.zeros(2, PLACE_TERMS))
        self.register_buffer("depth_line", torch.zeros(DEPTH_TERMS))
        self.depth_line[0] = USUAL_LOG_DEPTH

    def set_statistics(self, statistics: EventStatistics) -> None:
        """Take over the constants.

        Args:
            statistics: Of the training events.
        """
        self.face_weights.copy_(torch.from_numpy(statistics.face_weights))
        self.walk.copy_(torch.tensor(statistics.walk))
        self.place.copy_(torch.from_numpy(statistics.place))
        self.depth_line.copy_(torch.from_numpy(statistics.depth_line))

    def forward(self, npho: Tensor, relative_time: Tensor) -> Anchors:
        """Estimates, in the type of the module also under mixed precision.

        Args:
            npho: Photons, ``(b, 4760)``.
            relative_time: s, ``(b, 4760)``.
        """
        with torch.autocast(npho.device.type, enabled=False):
            return self._estimate(npho.to(self.position), relative_time.to(self.position))

    def centre(self, place: Tensor) -> Tensor:
        """Coordinates u and v in cm of sensors of the inner face, ``(b, 2)``.

        Args:
            place: Their rows and columns, int64 ``(b, 2)``.
        """
        position = self.position[place[:, 0] * INNER_SHAPE[1] + place[:, 1]]
        return to_uvw(position)[:, :2]

    def _estimate(self, npho: Tensor, relative_time: Tensor) -> Anchors:
        alive = npho.abs() <= INVALID_FROM  # neither infinite nor NaN
        light = torch.where(alive, npho, torch.zeros_like(npho))
        timed = alive & (relative_time.abs() <= INVALID_FROM) & (light >= self.threshold)
        time = NANO * torch.where(timed, relative_time, torch.zeros_like(npho))
        place = brightest(light[:, :INNER], alive[:, :INNER])
        uv = self._centroid(light[:, :INNER], place)
        around = moments(light[:, :INNER], alive[:, :INNER], place)
        spot, depth = self._corrected(around, uv, self.centre(place))
        faces = light.new_zeros(len(light), len(FACES)).index_add(1, self.face, light)
        source = to_xyz(torch.cat([uv, torch.full_like(uv[:, :1], DEPTH)], 1))
        electrons = photo_electrons(light)
        expected = flight(source, self.position) + delay(electrons, self.walk)
        late, mean = _robust_mean(time - expected, electrons, timed)
        energy = (faces @ self.face_weights).clamp(min=LOWEST)
        return Anchors(
            alive, light, timed, late, place, uv, spot, depth, around, faces, energy, mean
        )

    def _corrected(self, around: Moments, uv: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
        shift = (place_terms(around, uv - centre) * self.place).sum(-1)
        depth = (depth_terms(around) @ self.depth_line).clamp(*LOG_DEPTHS).exp() - DEPTH_OFFSET
        return uv + shift.clamp(-FURTHEST, FURTHEST), depth

    def _centroid(self, light: Tensor, place: Tensor) -> Tensor:
        uv = to_uvw(self.position[:INNER])[:, :2]
        centre = self.centre(place)
        near = ((uv - centre[:, None]).abs() < NEAR).all(-1)
        positive = light.clamp(min=0)
        weight = positive * positive.sqrt() * near
        total = weight.sum(1, keepdim=True)
        found = (weight @ uv) / total.clamp(min=torch.finfo(light.dtype).tiny)
        return torch.where(total > 0, found, centre)


def brightest(light: Tensor, alive: Tensor) -> Tensor:
    """Row and column of the brightest place of the inner face, smoothed over 3 x 3 live sensors.

    Args:
        light: Photons, ``(b, 4092)``.
        alive: Sensors with a count, bool ``(b, 4092)``.

    Returns:
        int64 ``(b, 2)``.
    """
    kernel = light.new_ones(1, 1, 3, 3)
    image = (light * alive).view(-1, 1, *INNER_SHAPE)
    live = alive.to(light.dtype).view(-1, 1, *INNER_SHAPE)
    count = conv2d(live, kernel, padding=1).clamp(min=1)
    top = (conv2d(image, kernel, padding=1) / count).flatten(1).argmax(1)
    return torch.stack([top // INNER_SHAPE[1], top % INNER_SHAPE[1]], 1)


def photo_electrons(light: Tensor) -> Tensor:
    """Photo-electrons at the nominal efficiency, none where the noise is negative.

    Args:
        light: Photons, ``(b, 4760)``.
    """
    positive = light.clamp(min=0)
    return torch.cat(
        [SIPM_EFFICIENCY * positive[:, :INNER], PMT_EFFICIENCY * positive[:, INNER:]], 1
    )


def counting_variance(light: Tensor) -> Tensor:
    """Variance of photons that are counted as photo-electrons, ``n / efficiency``.

    Args:
        light: Photons, ``(b, 4760)``; noise below zero has none.
    """
    positive = light.clamp(min=0)
    return torch.cat(
        [positive[:, :INNER] / SIPM_EFFICIENCY, positive[:, INNER:] / PMT_EFFICIENCY], 1
    )


def flight(source: Tensor, position: Tensor) -> Tensor:
    """Time of light through the xenon in ns.

    Args:
        source: Where it comes from in cm, ``(b, 3)``.
        position: Of the sensors, ``(s, 3)``.

    Returns:
        ``(b, s)``.
    """
    x, y, z = (position[:, axis] - source[:, axis, None] for axis in range(3))
    length: Tensor = (x * x + y * y + z * z).sqrt()  # three times as fast as a norm of rows
    return length * (INDEX / LIGHT)


def delay(electrons: Tensor, walk: Tensor) -> Tensor:
    """How late a discriminator fires on a weak signal, in ns.

    Args:
        electrons: Photo-electrons, any shape.
        walk: See `EventStatistics`.
    """
    return walk[0] * electrons.clamp(min=1).rsqrt() + walk[1]


def _robust_mean(time: Tensor, electrons: Tensor, timed: Tensor) -> tuple[Tensor, Tensor]:
    """Times after their robust mean, 0 where none counts, and the mean."""
    known = NOISE[0] / electrons.clamp(min=FEWEST) + NOISE[1]
    weight = torch.where(timed & (electrons >= FEWEST), 1 / known, torch.zeros_like(known))
    mean = _weighted(time, weight)
    for _ in range(ROUNDS):
        distance = (time - mean[:, None]) / OUTLIER
        mean = _weighted(time, weight / (1 + distance.square()))
    return torch.where(timed, time - mean[:, None], torch.zeros_like(time)), mean


def _weighted(time: Tensor, weight: Tensor) -> Tensor:
    return (time * weight).sum(1) / weight.sum(1).clamp(min=1e-6)
