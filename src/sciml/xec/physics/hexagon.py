"""The graph of a hexagonal face, 73 photomultipliers in six rows, the same for top and bottom."""

import functools

import numpy as np
from numpy.typing import NDArray

from sciml.xec.physics.constants import HEX_ROWS

Ids = NDArray[np.int64]
STEPS = ((0, 0.0), (0, -1.0), (0, 1.0), (-1, -0.5), (-1, 0.5), (1, -0.5), (1, 0.5))
"""Row and place s of an edge's source relative to its destination, by the type of the edge."""


def hex_grid() -> tuple[Ids, Ids]:
    """Row of every node and column in its row, ``(73,)`` each."""
    rows = np.repeat(np.arange(len(HEX_ROWS)), HEX_ROWS)
    return rows, np.arange(len(rows)) - np.searchsorted(rows, rows)


@functools.cache
def hex_places() -> NDArray[np.float64]:
    """Row, and place s along it in units of the pitch, of every node, ``(73, 2)``."""
    rows, columns = hex_grid()
    middle = (np.array(HEX_ROWS)[rows] - 1) / 2
    places = np.stack([rows, columns - middle], 1)
    places.setflags(write=False)
    return places


@functools.cache
def hex_graph() -> Ids:
    """Edges between nearest neighbours, and one from each node to itself.

    Returns:
        Source, destination and type of 439 edges, ``(3, 439)``, by destination and then by type;
        type 0 is the node itself, the others are explained by `STEPS`.
    """
    places = hex_places()
    step = places[None, :] - places[:, None]  # destination, source
    kind = np.all(step[:, :, None] == np.array(STEPS), axis=-1)
    destination, source, which = np.nonzero(kind)
    order = np.lexsort((which, destination))
    return _frozen(source[order], destination[order], which[order])


@functools.cache
def legacy_hex_graph() -> Ids:
    """The graph of older checkpoints, as if every second row were shifted by half a pitch.

    Many of its edges join sensors that are no neighbours; only for those checkpoints.

    Returns:
        Node, its supposed neighbour and type of 431 edges, ``(3, 431)``, node by node.
    """
    near = ((0, 0), (0, -1), (0, 1))
    even = (*near, (-1, -1), (-1, 0), (1, -1), (1, 0))
    odd = (*near, (-1, 0), (-1, 1), (1, 0), (1, 1))
    rows, columns = hex_grid()
    step = np.where(rows[:, None, None] % 2 == 0, np.array(even), np.array(odd))
    row, column = rows[:, None] + step[..., 0], columns[:, None] + step[..., 1]
    width = np.array([*HEX_ROWS, 0])[row]  # rows -1 and 6 take the last entry: no nodes
    node, which = np.nonzero((row >= 0) & (column >= 0) & (column < width))
    start = np.searchsorted(rows, row[node, which])
    return _frozen(node, start + column[node, which], which)


def _frozen(*rows: Ids) -> Ids:
    edges = np.stack(rows).astype(np.int64)
    edges.setflags(write=False)
    return edges
