"""Conventional rules on top of a known place: time and energy (b events).

The cheap estimates that run inside networks are those of `sciml.xec.physics.anchors`, the place is
that of `sciml.xec.physics.light_fit`.
"""

import torch
from torch import Tensor

from sciml.xec.physics.anchors import (
    FEWEST,
    NANO,
    NOISE,
    OUTLIER,
    ROUNDS,
    Anchors,
    delay,
    flight,
    photo_electrons,
)
from sciml.xec.physics.arrays import constant
from sciml.xec.physics.coordinates import to_xyz
from sciml.xec.physics.sensors import sensors


def interaction_time(anchors: Anchors, relative_time: Tensor, uvw: Tensor, walk: Tensor) -> Tensor:
    """Time of the first interaction from the hits of all sensors, ns after `time_min` of the batch.

    The mean of the times less those of flight and the delays of weak signals, weighted by the
    inverse variance, outliers weighted down; not a number without a hit that counts.

    Args:
        anchors: Cheap estimates of the same events.
        relative_time: s, ``(b, 4760)``.
        uvw: Where the light comes from in cm, ``(b, 3)``.
        walk: Of `EventStatistics`, ``(2,)``.

    Returns:
        ``(b,)``.
    """
    electrons = photo_electrons(anchors.light).to(uvw.dtype)
    time = NANO * torch.where(anchors.timed, relative_time, 0.0).to(uvw.dtype)
    expected = flight(to_xyz(uvw), constant(sensors().position, uvw)) + delay(electrons, walk)
    time = time - expected
    known = NOISE[0] / electrons.clamp(min=FEWEST) + NOISE[1]
    own = torch.where(anchors.timed & (electrons >= FEWEST), 1 / known, 0.0)
    mean = (time * own).sum(1) / own.sum(1)
    for _ in range(ROUNDS):
        weight = own / (1 + ((time - mean[:, None]) / OUTLIER).square())
        mean = (time * weight).sum(1) / weight.sum(1)
    return mean


def energy_terms(faces: Tensor, depth: Tensor) -> Tensor:
    """Photons of every face × 1, ln w and w, which a linear energy is made of.

    Args:
        faces: Photons of every face, ``(b, 6)``.
        depth: w in cm, positive, ``(b,)``.

    Returns:
        ``(b, 18)``.
    """
    depth = depth[:, None]
    return torch.cat([faces, faces * depth.log(), faces * depth], 1)
