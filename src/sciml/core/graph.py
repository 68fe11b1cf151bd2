"""Neighbour tables of batched point clouds (b graphs, n points, m points in the largest graph)."""

import torch
from torch import Tensor


def pad_by_graph(values: Tensor, graph: Tensor, ptr: Tensor) -> Tensor:
    """Rows of a concatenated array as one zero-padded row block per graph.

    Args:
        values: Concatenated rows, shape ``(n, ...)``.
        graph: Graph of every row, ascending, shape ``(n,)``.
        ptr: First row of every graph and the total, shape ``(b + 1,)``.

    Returns:
        Padded rows, shape ``(b, m, ...)``.
    """
    counts = ptr[1:] - ptr[:-1]
    local = torch.arange(len(graph), device=graph.device) - ptr[graph]
    largest = int(counts.max())
    padded = values.new_zeros((len(counts), largest, *values.shape[1:]))
    padded[graph, local] = values
    return padded


def neighbor_table(
    positions: Tensor, graph: Tensor, ptr: Tensor, cutoff: float
) -> tuple[Tensor, Tensor]:
    """Neighbours of every point within a cutoff, as a padded table.

    Distances come from one matrix per graph: for molecules of up to a few hundred atoms that is
    cheaper than a cell list.

    Args:
        positions: Concatenated coordinates, shape ``(n, 3)``.
        graph: Graph of every point, ascending, shape ``(n,)``.
        ptr: First point of every graph and the total, shape ``(b + 1,)``.
        cutoff: Largest distance, in the unit of the positions; the border itself is outside.

    Returns:
        Index of the sending neighbour and whether it is real, both of shape ``(n, k)`` with k the
        largest number of neighbours (at least 1). Padding points at the receiver itself.
    """
    counts = ptr[1:] - ptr[:-1]
    padded = pad_by_graph(positions, graph, ptr)
    largest = padded.shape[1]
    columns = torch.arange(largest, device=ptr.device)
    present = columns < counts[:, None]
    local = torch.arange(len(graph), device=graph.device) - ptr[graph]
    offsets = padded[graph] - positions[:, None]
    near = (offsets.square().sum(-1) < cutoff**2) & present[graph] & (columns != local[:, None])
    degree = near.sum(1)
    width = max(int(degree.max()), 1)
    receiver, column = near.nonzero(as_tuple=True)
    slot = (near.cumsum(1) - 1)[receiver, column]
    table = torch.arange(len(graph), device=graph.device)[:, None].repeat(1, width)
    table[receiver, slot] = ptr[graph[receiver]] + column
    real = torch.arange(width, device=graph.device) < degree[:, None]
    return table, real


def all_pairs(graph: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
    """Every unordered pair i < j of points of the same graph.

    Args:
        graph: Graph of every point, ascending, shape ``(n,)``.
        ptr: First point of every graph and the total, shape ``(b + 1,)``.

    Returns:
        Indices i and j, both of shape ``(p,)``, sorted by i, then j.
    """
    points = torch.arange(len(graph), device=graph.device)
    later = ptr[graph + 1] - points - 1
    i = torch.repeat_interleave(points, later)
    first = torch.repeat_interleave(later.cumsum(0) - later, later)
    j = i + 1 + torch.arange(len(i), device=graph.device) - first
    return i, j
