import numpy as np
import pytest

from sciml.xec.physics.hexagon import hex_graph, hex_grid, hex_places, legacy_hex_graph
from sciml.xec.physics.images import hex_ids
from sciml.xec.physics.sensors import sensors

ROWS = (11, 12, 11, 12, 13, 14)


def distances(graph: np.ndarray, face: str) -> np.ndarray:
    place = sensors().position[hex_ids(face)]
    return np.linalg.norm(place[graph[0]] - place[graph[1]], axis=1)


def test_edges_and_degrees() -> None:
    source, destination, kind = hex_graph()
    assert hex_graph().shape == (3, 439)
    assert hex_graph().dtype == np.int64
    assert np.count_nonzero(kind) == 366
    assert np.array_equal(source[kind == 0], np.arange(73))
    degrees = np.bincount(destination[kind > 0])
    assert dict(zip(*np.unique(degrees, return_counts=True), strict=True)) == {
        2: 2,
        3: 4,
        4: 25,
        5: 2,
        6: 40,
    }


@pytest.mark.parametrize("face", ["top", "bot"])
def test_neighbours_are_the_nearest_sensors(face: str) -> None:
    along = distances(hex_graph(), face)[np.isin(hex_graph()[2], (1, 2))]
    across = distances(hex_graph(), face)[hex_graph()[2] > 2]
    assert along == pytest.approx(6.12, abs=1e-9)
    assert across == pytest.approx(7.557, abs=5e-4)  # sqrt(3.06² + 6.91²)
    place = sensors().position[hex_ids(face)]
    apart = np.linalg.norm(place[:, None] - place[None], axis=-1)
    assert np.count_nonzero(apart < 7.6) == 439  # nothing near is left out


def test_types_are_steps_from_destination_to_source() -> None:
    source, destination, kind = hex_graph()
    step = hex_places()[source] - hex_places()[destination]
    wanted = [(0, 0), (0, -1), (0, 1), (-1, -0.5), (-1, 0.5), (1, -0.5), (1, 0.5)]
    assert np.array_equal(step, np.array(wanted)[kind])


def test_every_edge_has_its_opposite() -> None:
    opposite = np.array([0, 2, 1, 6, 5, 4, 3])
    edges = set(map(tuple, hex_graph().T.tolist()))
    back = hex_graph()[[1, 0, 2]]
    back[2] = opposite[back[2]]
    assert set(map(tuple, back.T.tolist())) == edges
    assert len(edges) == 439


def test_edges_are_ordered_by_destination_with_the_node_itself_first() -> None:
    _, destination, kind = hex_graph()
    assert (np.diff(destination * 7 + kind) > 0).all()
    assert (kind[np.searchsorted(destination, np.arange(73))] == 0).all()


def test_places_are_those_of_the_sensors() -> None:
    position = sensors().position[hex_ids("top")]
    radius = np.hypot(position[:, 0], position[:, 1])
    assert hex_places()[:, 0] == pytest.approx((radius - 68.27) / 6.91)
    assert hex_places()[:, 1] == pytest.approx(position[:, 2] / 6.12)
    rows, columns = hex_grid()
    assert np.bincount(rows).tolist() == list(ROWS)
    assert (columns[0], columns[10], columns[11], columns[72]) == (0, 10, 0, 13)


def test_legacy_graph() -> None:
    near = {
        0: [(0, -1), (0, 1), (-1, -1), (-1, 0), (1, -1), (1, 0)],
        1: [(0, -1), (0, 1), (-1, 0), (-1, 1), (1, 0), (1, 1)],
    }
    start = np.cumsum((0, *ROWS))
    edges = []
    for row, width in enumerate(ROWS):
        for column in range(width):
            node = start[row] + column
            edges.append((node, node, 0))
            for kind, (down, right) in enumerate(near[row % 2], start=1):
                r, c = row + down, column + right
                if 0 <= r < 6 and 0 <= c < ROWS[r]:
                    edges.append((node, start[r] + c, kind))
    assert len(edges) == 431
    assert np.array_equal(legacy_hex_graph(), np.array(edges).T)


def test_faults_of_the_legacy_graph() -> None:
    joined = legacy_hex_graph()[2] > 0
    assert np.count_nonzero(joined) == 358
    far = distances(legacy_hex_graph(), "top")[joined] > 11
    assert np.count_nonzero(far) == 84
    true = {(a, b) for a, b, kind in hex_graph().T.tolist() if kind}
    drawn = {(a, b) for a, b, kind in legacy_hex_graph().T.tolist() if kind}
    assert len(true - drawn) == 92
