"""Neighbour tables and pairs against loops over single graphs."""

import pytest
import torch
from torch import Tensor

from sciml.core.graph import all_pairs, neighbor_table, pad_by_graph

SIZES = (3, 1, 7, 2)
CUTOFF = 1.5


def _points() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor(SIZES)
    graph = torch.repeat_interleave(torch.arange(len(SIZES)), counts)
    ptr = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    positions = torch.randn(len(graph), 3, generator=generator, dtype=torch.float64)
    return positions, graph, ptr


def test_padding_keeps_rows_in_place_and_adds_zeros() -> None:
    _, graph, ptr = _points()
    values = torch.arange(1.0, len(graph) + 1)[:, None]
    padded = pad_by_graph(values, graph, ptr)
    assert padded.shape == (len(SIZES), max(SIZES), 1)
    for row, size in enumerate(SIZES):
        assert torch.equal(padded[row, :size], values[ptr[row] : ptr[row + 1]])
        assert not padded[row, size:].any()


def test_neighbors_are_all_points_of_the_graph_within_the_cutoff() -> None:
    positions, graph, ptr = _points()
    table, real = neighbor_table(positions, graph, ptr, CUTOFF)
    for point in range(len(graph)):
        near = {
            other
            for other in range(len(graph))
            if other != point
            and graph[other] == graph[point]
            and torch.dist(positions[other], positions[point]) < CUTOFF
        }
        assert set(table[point][real[point]].tolist()) == near
        assert len(near) == int(real[point].sum())


def test_padding_of_the_table_follows_the_neighbors_and_names_the_point() -> None:
    positions, graph, ptr = _points()
    table, real = neighbor_table(positions, graph, ptr, CUTOFF)
    own = torch.arange(len(graph))[:, None].expand_as(table)
    assert torch.equal(table[~real], own[~real])
    assert not (real[:, 1:] & ~real[:, :-1]).any()
    assert table.shape[1] == int(real.sum(1).max())


def test_a_distance_of_exactly_the_cutoff_is_outside() -> None:
    positions = torch.tensor([[0.0, 0, 0], [2.0, 0, 0]], dtype=torch.float64)
    graph, ptr = torch.zeros(2, dtype=torch.int64), torch.tensor([0, 2])
    _, inside = neighbor_table(positions, graph, ptr, 2.0)
    _, beyond = neighbor_table(positions, graph, ptr, 2.0 + 1e-12)
    assert not inside.any()
    assert beyond.all()


def test_a_lonely_point_has_one_padded_neighbor() -> None:
    table, real = neighbor_table(
        torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64), torch.tensor([0, 1]), CUTOFF
    )
    assert table.tolist() == [[0]]
    assert real.tolist() == [[False]]


@pytest.mark.parametrize("sizes", [(1,), (1, 1), (4,), (2, 1, 3)])
def test_pairs_are_those_of_nested_loops(sizes: tuple[int, ...]) -> None:
    counts = torch.tensor(sizes)
    graph = torch.repeat_interleave(torch.arange(len(sizes)), counts)
    ptr = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    first, second = all_pairs(graph, ptr)
    expected = [
        (i, j) for i in range(len(graph)) for j in range(i + 1, len(graph)) if graph[i] == graph[j]
    ]
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == expected
