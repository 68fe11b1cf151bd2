"""Photons of hidden sensors, guessed from those of their neighbours.

Sizes: b events, m hidden readings.
"""

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from sciml.xec.physics.anchors import DEPTH, Conventional
from sciml.xec.physics.constants import FACES, INVALID, INVALID_FROM, SENSORS
from sciml.xec.physics.coordinates import to_xyz
from sciml.xec.physics.sensors import face_ids, sensors
from sciml.xec.physics.solid_angle import sensor_solid_angles

NEAR = 20.0  # cm, distance of the sensors that stand in for a hidden one
FEW = 50.0  # photons on these, up to which solid angles say nothing
DIM = 0.01  # of the solid angle of the hidden sensor, below which one does not count
PIECE = 1 << 13  # hidden readings at a time


def light_centroid(npho: Tensor, hidden: Tensor) -> Tensor:
    """Where the light of events comes from, by the centroid of the inner face, 3 cm deep.

    Args:
        npho: Photons, ``(b, 4760)``.
        hidden: Readings that are not to be used, bool ``(b, 4760)``.

    Returns:
        x, y and z in cm, ``(b, 3)``.
    """
    known = torch.where(hidden, torch.full_like(npho, INVALID), npho)
    uv = Conventional().to(npho)(known, torch.full_like(npho, INVALID)).uv
    return to_xyz(torch.cat([uv, torch.full_like(uv[:, :1], DEPTH)], 1))


def neighbour_mean(npho: Tensor, hidden: Tensor) -> Tensor:
    """Hidden photons as the mean of the live sensors of the same face within 20 cm.

    Where there is none, the mean of the live sensors of the face, 0 without any.

    Args:
        npho: Photons, ``(b, 4760)``.
        hidden: Readings that are wanted and not used, bool ``(b, 4760)``.

    Returns:
        In the order of ``hidden.nonzero()``, ``(m,)``.
    """
    live, counts = _live(npho, hidden)
    mean = _face_mean(live, counts)
    found = []
    for event, sensor in _pieces(hidden):
        near, _ = _neighbours(sensor)
        used = live[event[:, None], near]
        total = torch.where(used, counts[event[:, None], near], 0.0).sum(1)
        number = used.sum(1)
        found.append(torch.where(number > 0, total / number.clamp(min=1), mean[event, sensor]))
    return torch.cat(found)


def solid_angle_mean(npho: Tensor, hidden: Tensor, points: Tensor) -> Tensor:
    """Hidden photons from those within 20 cm in proportion to the solid angles, ``Σn Ω / ΣΩₙ``.

    Neighbours with less than a hundredth of the hidden sensor's solid angle do not count. Where
    they hold 50 photons or less, or none sees the light, it is the `neighbour_mean`.

    Args:
        npho: Photons, ``(b, 4760)``.
        hidden: Readings that are wanted and not used, bool ``(b, 4760)``.
        points: Where the light comes from, such as `light_centroid`, x, y, z in cm ``(b, 3)``.

    Returns:
        In the order of ``hidden.nonzero()``, ``(m,)``.
    """
    live, counts = _live(npho, hidden)
    solid = _with_none(sensor_solid_angles(points.to(npho)))
    found = []
    for event, sensor in _pieces(hidden):
        near, _ = _neighbours(sensor)
        own, theirs = solid[event, sensor], solid[event[:, None], near]
        used = live[event[:, None], near] & (theirs > 0) & (theirs >= DIM * own[:, None])
        light = torch.where(used, counts[event[:, None], near], 0.0).sum(1)
        seen = torch.where(used, theirs, 0.0).sum(1)
        guess = light * own / seen.clamp(min=torch.finfo(seen.dtype).tiny)
        found.append(torch.where((light > FEW) & (own > 0), guess, torch.nan))
    guesses = torch.cat(found)
    return torch.where(guesses.isnan(), neighbour_mean(npho, hidden), guesses)


def nearest_mean(npho: Tensor, hidden: Tensor, neighbours: int = 4) -> Tensor:
    """Hidden photons as the mean of the nearest live sensors, weighted by the inverse distance.

    These are on the same face and within 20 cm; without any, it is the `neighbour_mean`.

    Args:
        npho: Photons, ``(b, 4760)``.
        hidden: Readings that are wanted and not used, bool ``(b, 4760)``.
        neighbours: How many.

    Returns:
        In the order of ``hidden.nonzero()``, ``(m,)``.
    """
    live, counts = _live(npho, hidden)
    found = []
    for event, sensor in _pieces(hidden):
        near, distance = _neighbours(sensor)
        used = live[event[:, None], near]
        used &= used.cumsum(1) <= neighbours  # they come in the order of their distances
        weight = torch.where(used, 1 / distance.to(counts), 0.0)
        light = (weight * torch.where(used, counts[event[:, None], near], 0.0)).sum(1)
        found.append(light / weight.sum(1))
    guesses = torch.cat(found)
    return torch.where(guesses.isnan(), neighbour_mean(npho, hidden), guesses)


def _live(npho: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Sensors that can be used and their photons, with a column that stands for no sensor."""
    live = npho.isfinite() & (npho <= INVALID_FROM) & ~hidden
    return _with_none(live), _with_none(torch.where(live, npho, 0.0))


def _with_none(values: Tensor) -> Tensor:
    return torch.cat([values, torch.zeros_like(values[:, :1])], 1)


def _face_mean(live: Tensor, counts: Tensor) -> Tensor:
    """Mean of the live sensors of the face of each, ``(b, 4760)``."""
    face = torch.tensor(sensors().face, device=live.device)
    empty = counts.new_zeros(len(counts), len(FACES))
    total = empty.index_add(1, face, counts[:, :SENSORS])
    number = empty.index_add(1, face, live[:, :SENSORS].to(counts))
    return (total / number.clamp(min=1))[:, face]


def _pieces(hidden: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Event and sensor of the hidden readings, some at a time."""
    return [(part[:, 0], part[:, 1]) for part in hidden.nonzero().split(PIECE)]


def _neighbours(sensor: Tensor) -> tuple[Tensor, Tensor]:
    """Sensors near others and their distances in cm, nearest first; 4760 stands for none."""
    ids, distances = _near_table()
    rows = sensor.cpu().numpy()
    near, distance = (torch.from_numpy(table[rows]) for table in (ids, distances))
    return near.long().to(sensor.device), distance.to(sensor.device)


@functools.cache
def _near_table() -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    position = sensors().position
    trees = {face: cKDTree(position[face_ids(face)]) for face in FACES}
    width = max(
        tree.query_ball_point(tree.data, NEAR, return_length=True).max() for tree in trees.values()
    )
    ids = np.full((SENSORS, width - 1), SENSORS, dtype=np.int32)
    distances = np.full(ids.shape, np.inf, dtype=np.float32)
    for face, tree in trees.items():
        own = face_ids(face)
        distance, near = tree.query(tree.data, min(width, len(own)), distance_upper_bound=NEAR)
        # the first is the sensor itself; those that are missing have the number after the last
        ids[own, : near.shape[1] - 1] = np.append(own, SENSORS)[near[:, 1:]]
        distances[own, : near.shape[1] - 1] = distance[:, 1:]
    return ids, distances
