"""Where the 4760 sensors are: positions, normals and faces of the ideal detector."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sciml.xec.physics.constants import (
    CENTRE_PITCH,
    COARSE_PITCH,
    FACES,
    HALF_ANGLE,
    HARDWARE,
    HEX_PITCH,
    HEX_START,
    INNER,
    INNER_PITCH,
    OUTER_RADIUS,
    RADIUS,
    SENSORS,
    SIDE_PITCH,
    SIDE_START,
    SIDE_STEP,
)
from sciml.xec.physics.hexagon import hex_grid, hex_places
from sciml.xec.physics.images import (
    CENTRE_START,
    hex_ids,
    inner_image,
    outer_centre,
    outer_coarse,
    plane_image,
)

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Grid = tuple[str, Ids, Floats, Floats]  # face, ids, positions and normals of a regular grid


@dataclass(frozen=True)
class Sensors:
    """Read-only tables of all sensors, in the order of their ids.

    Args:
        position: cm, float64 ``(4760, 3)``.
        normal: Unit vectors that point into the xenon, float64 ``(4760, 3)``.
        face: Output code of the face, int64 ``(4760,)``.
        hardware: The experiment's code of the face, int64 ``(4760,)``.
        row: Row in the grid of the face, int64 ``(4760,)``. On the outer face that is the coarse
            map, also for the twelve of its sensors that sit in the centre patch, and the centre
            patch for ids from 4742.
        col: Column in the same grid, int64 ``(4760,)``.
        pmt: Whether it is a photomultiplier, bool ``(4760,)``.
    """

    position: Floats
    normal: Floats
    face: Ids
    hardware: Ids
    row: Ids
    col: Ids
    pmt: NDArray[np.bool_]


@functools.cache
def sensors() -> Sensors:
    """The ideal detector, in closed forms that agree with the experiment's table within 5 µm."""
    position, normal = np.empty((SENSORS, 3)), np.empty((SENSORS, 3))
    face, row, col = (np.empty(SENSORS, dtype=np.int64) for _ in range(3))
    # seven grids; the centre patch comes after the coarse map, which holds twelve of its sensors
    for name, ids, where, facing in (*_shells(), *_sides(), *_ends()):
        position[ids], normal[ids] = where, facing
        face[ids] = FACES.index(name)
    for ids, rows, columns in _cells():
        row[ids], col[ids] = rows, columns
    pmt = np.arange(SENSORS) >= INNER
    table = Sensors(position, normal, face, output_to_hardware(face), row, col, pmt)
    for values in vars(table).values():
        values.setflags(write=False)
    return table


@functools.cache
def face_ids(face: str) -> Ids:
    """Ids of the sensors of a face, in growing order.

    Args:
        face: One of `FACES`.

    Raises:
        ValueError: If there is no such face.
    """
    if face not in FACES:
        raise ValueError(f"no face '{face}'; there are {', '.join(FACES)}")
    (ids,) = np.nonzero(sensors().face == FACES.index(face))
    ids.setflags(write=False)
    return ids


def hardware_to_output(codes: NDArray[np.integer]) -> Ids:
    """Output codes of faces given in the experiment's own code.

    Args:
        codes: Integers from 0 to 5, any shape.

    Raises:
        ValueError: If a code is not one of them.
    """
    return _converted(np.argsort(HARDWARE), codes)


def output_to_hardware(codes: NDArray[np.integer]) -> Ids:
    """The experiment's own codes of faces given in output code.

    Args:
        codes: Integers from 0 to 5, any shape.

    Raises:
        ValueError: If a code is not one of them.
    """
    return _converted(np.array(HARDWARE), codes)


def _converted(table: Ids, codes: NDArray[np.integer]) -> Ids:
    given = np.asarray(codes)
    wrong = given[(given < 0) | (given >= len(table))]
    if wrong.size:
        raise ValueError(f"{wrong[0]} is the code of no face; give 0 to {len(table) - 1}")
    return table[given]


def _shells() -> Iterator[Grid]:
    for name, ids, radius, pitch, sign in (
        ("inner", inner_image(), RADIUS, INNER_PITCH, 1.0),
        ("outer", outer_coarse(), OUTER_RADIUS, COARSE_PITCH, -1.0),
        ("outer", outer_centre(), OUTER_RADIUS, CENTRE_PITCH, -1.0),
    ):
        rows, columns = _centred(ids.shape)
        alpha = np.radians(-rows * pitch[0])
        yield name, ids, _place(radius, alpha, columns * pitch[1]), sign * _radial(alpha)


def _sides() -> Iterator[Grid]:
    slant = np.array(SIDE_STEP) / np.hypot(*SIDE_STEP)  # along r and |z|, in the plane of the face
    for name, ids, sign in (("us", plane_image("us"), -1.0), ("ds", plane_image("ds"), 1.0)):
        alpha = np.radians(-_centred(ids.shape)[0] * SIDE_PITCH)
        columns = np.indices(ids.shape)[1]
        radius, z = SIDE_START[0] + SIDE_STEP[0] * columns, SIDE_START[1] + SIDE_STEP[1] * columns
        axis = np.array([0.0, 0.0, sign])
        yield (
            name,
            ids,
            _place(radius, alpha, sign * z),
            slant[1] * _radial(alpha) - slant[0] * axis,
        )


def _ends() -> Iterator[Grid]:
    rows, places = hex_places().T
    for name, ids, sign in (("top", hex_ids("top"), 1.0), ("bot", hex_ids("bot"), -1.0)):
        alpha = np.radians(np.full(len(ids), sign * HALF_ANGLE))
        where = _place(HEX_START + HEX_PITCH[0] * rows, alpha, HEX_PITCH[1] * places)
        # against growing |alpha|
        facing = -sign * np.stack([np.sin(alpha), np.cos(alpha), 0 * alpha], -1)
        yield name, ids, where, facing


def _cells() -> Iterator[tuple[Ids, Ids, Ids]]:
    """Ids, rows and columns of each grid, for every sensor once."""
    for ids in (inner_image(), outer_coarse(), plane_image("us"), plane_image("ds")):
        yield ids, *np.indices(ids.shape)
    for ids in (hex_ids("top"), hex_ids("bot")):
        yield ids, *hex_grid()
    new = np.argwhere(outer_centre() >= CENTRE_START)
    yield outer_centre()[tuple(new.T)], new[:, 0], new[:, 1]


def _centred(shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Rows and columns of a grid, counted from its middle."""
    rows, columns = np.indices(shape)
    return rows - (shape[0] - 1) / 2, columns - (shape[1] - 1) / 2


def _radial(alpha: Floats) -> Floats:
    return np.stack([-np.cos(alpha), np.sin(alpha), 0 * alpha], -1)


def _place(radius: float | Floats, alpha: Floats, z: Floats) -> Floats:
    columns = (-radius * np.cos(alpha), radius * np.sin(alpha), z)
    return np.stack(np.broadcast_arrays(*columns), -1)
