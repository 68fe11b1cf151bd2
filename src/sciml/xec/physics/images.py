"""Sensor ids laid out as the images that networks and figures look at."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sciml.xec.physics.constants import (
    CENTRE_SHAPE,
    COARSE_SHAPE,
    HEX_ROWS,
    INNER,
    INNER_SHAPE,
    SIDE_SHAPE,
)

Ids = NDArray[np.int64]
COARSE_START, UPSTREAM_START, DOWNSTREAM_START = INNER, 4308, 4452
TOP_START, BOTTOM_START, CENTRE_START = 4596, 4669, 4742
COARSE_SPREAD, CENTRE_SPREAD = (5, 3), (3, 2)  # cells of the fine grid a sensor has, z by alpha
CENTRE_ROWS, CENTRE_COLUMNS = slice(15, 30), slice(30, 42)  # where the fine grid holds the centre


def inner_image() -> Ids:
    """The inner face, ``(93, 44)``: alpha falls with the row, z grows with the column."""
    return np.arange(INNER).reshape(INNER_SHAPE)


def plane_image(face: Literal["us", "ds"]) -> Ids:
    """A side face, ``(24, 6)``: alpha falls with the row, r grows with the column.

    Args:
        face: Upstream or downstream.
    """
    start = UPSTREAM_START if face == "us" else DOWNSTREAM_START
    return _grid(start, SIDE_SHAPE)


def hex_ids(face: Literal["top", "bot"]) -> Ids:
    """The 73 sensors of a hexagonal face in the order of the nodes of its graph.

    Args:
        face: Top or bottom.
    """
    start = TOP_START if face == "top" else BOTTOM_START
    return np.arange(start, start + sum(HEX_ROWS))


def outer_coarse() -> Ids:
    """The coarse map of the outer face, ``(24, 9)``: alpha falls with the row, z with the column.

    Twelve of its cells hold sensors that sit in the centre patch.
    """
    return _grid(COARSE_START, COARSE_SHAPE)


def outer_centre() -> Ids:
    """The denser centre patch of the outer face, ``(6, 5)``, 12 ids of the coarse map in it."""
    centre = np.empty(CENTRE_SHAPE, dtype=np.int64)
    shared = np.zeros(CENTRE_SHAPE, dtype=bool)
    shared[np.ix_((0, 2, 3, 5), (0, 2, 4))] = True
    centre[shared] = outer_coarse()[10:14, 3:6].ravel()
    centre[~shared] = np.arange(CENTRE_START, CENTRE_START + np.count_nonzero(~shared))
    return centre


def outer_fine() -> tuple[Ids, Ids]:
    """The outer face on a fine grid, rows along z and columns along alpha.

    Coarse sensors fill 5 x 3 cells, those of the centre patch 3 x 2. A count that is spread over
    cells must be divided, before anything else, by their number.

    Returns:
        The sensor that provides each cell, ``(45, 72)``, and how many cells that sensor fills,
        15 or 6, ``(45, 72)``.
    """
    return _fine(outer_coarse().T)


def legacy_outer_coarse() -> Ids:
    """The coarse map as older checkpoints were trained on it, ``(9, 24)``.

    Its rows cut across the rows of the detector; only for those checkpoints.
    """
    return _grid(COARSE_START, COARSE_SHAPE[::-1])


def legacy_outer_fine() -> tuple[Ids, Ids]:
    """Like `outer_fine`, from the map of older checkpoints."""
    return _fine(legacy_outer_coarse())


def _grid(start: int, shape: tuple[int, ...]) -> Ids:
    return start + np.arange(np.prod(shape)).reshape(shape)


def _fine(coarse: Ids) -> tuple[Ids, Ids]:
    ids = _spread(coarse, COARSE_SPREAD)
    cells = np.full_like(ids, np.prod(COARSE_SPREAD))
    ids[CENTRE_ROWS, CENTRE_COLUMNS] = _spread(outer_centre().T, CENTRE_SPREAD)
    cells[CENTRE_ROWS, CENTRE_COLUMNS] = np.prod(CENTRE_SPREAD)
    return ids, cells


def _spread(image: NDArray[Any], cells: tuple[int, int]) -> NDArray[Any]:
    return image.repeat(cells[0], axis=0).repeat(cells[1], axis=1)
