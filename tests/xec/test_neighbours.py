import math

import numpy as np
import pytest
import torch
from gammas import gammas
from numpy.typing import NDArray
from torch import Tensor

from sciml.xec.physics import neighbours
from sciml.xec.physics.constants import INVALID, SENSORS
from sciml.xec.physics.coordinates import to_uvw, to_xyz
from sciml.xec.physics.neighbours import (
    light_centroid,
    nearest_mean,
    neighbour_mean,
    solid_angle_mean,
)
from sciml.xec.physics.sensors import sensors
from sciml.xec.physics.solid_angle import sensor_solid_angles


def readings(count: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Photons with dead sensors, and what is hidden: some everywhere, and whole neighbourhoods."""
    rng = np.random.default_rng(seed)
    npho = torch.from_numpy(rng.gamma(0.7, 300.0, (count, SENSORS)))
    npho[torch.from_numpy(rng.random((count, SENSORS)) < 0.05)] = INVALID
    npho[0, 3] = torch.nan
    hidden = torch.from_numpy(rng.random((count, SENSORS)) < 0.004)
    hidden[1, 4308:4452] = True  # all of one face but one
    hidden[1, 4400] = False
    npho[1, 4400] = 77.0
    hidden[2, 4669:] = True
    npho[2, 4669:4742] = INVALID  # nothing is left of the bottom face
    return npho, hidden


def slow_rules(
    npho: Tensor, hidden: Tensor, points: Tensor, neighbours: int
) -> NDArray[np.float64]:
    """Mean, solid angles and nearest of every hidden reading, a sensor at a time."""
    table = sensors()
    solid = sensor_solid_angles(points).numpy()
    live = (npho.isfinite() & (npho < 9e9) & ~hidden).numpy()
    found = []
    for event, sensor in hidden.nonzero().tolist():
        n, gap = (
            npho[event].numpy(),
            np.linalg.norm(table.position - table.position[sensor], axis=1),
        )
        face = live[event] & (table.face == table.face[sensor])
        near = face & (gap < 20)
        mean = n[near].mean() if near.any() else n[face].mean() if face.any() else 0.0
        own = solid[event, sensor]
        used = near & (solid[event] >= 0.01 * own) & (solid[event] > 0)
        few = n[used].sum() <= 50 or own == 0
        by_solid = mean if few else n[used].sum() * own / solid[event, used].sum()
        order = sorted(np.flatnonzero(near), key=lambda one: gap[one])[:neighbours]
        by_distance = np.average(n[order], weights=1 / gap[order]) if order else mean
        found.append([mean, by_solid, by_distance])
    return np.array(found)


def test_hidden_readings_are_those_of_slow_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    npho, hidden = readings()
    points = torch.tensor(
        to_xyz(np.array([[5.0, 30.0, 2.0], [-10.0, 0.0, 9.0], [0.0, -60.0, 20.0]]))
    )
    # all neighbours: which of several at the same distance are the nearest is nobody's concern
    slow = slow_rules(npho, hidden, points, 1000)
    means = neighbour_mean(npho, hidden)
    assert means.numpy() == pytest.approx(slow[:, 0], rel=1e-9)
    assert solid_angle_mean(npho, hidden, points).numpy() == pytest.approx(slow[:, 1], rel=1e-9)
    assert nearest_mean(npho, hidden, 1000).numpy() == pytest.approx(slow[:, 2], rel=1e-6)
    monkeypatch.setattr(neighbours, "PIECE", 7)
    assert torch.equal(neighbour_mean(npho, hidden), means)


def test_a_sensor_without_live_neighbours_takes_its_face() -> None:
    npho, hidden = readings()
    for guesses in (neighbour_mean(npho, hidden), nearest_mean(npho, hidden)):
        filled = torch.full_like(npho, -1).masked_scatter(hidden, guesses)
        assert (filled[1, 4308:4452][hidden[1, 4308:4452]] == 77).all()
        assert (filled[2, 4669:4742] == 0).all()
        assert filled.isfinite().all()


def test_nearest_sensors_weigh_by_their_distance() -> None:
    sensor = 50 * 44 + 20  # in the middle of the inner face
    npho = torch.zeros(1, SENSORS, dtype=torch.float64)
    hidden = torch.zeros(1, SENSORS, dtype=torch.bool)
    hidden[0, sensor] = True
    npho[0, sensor] = 1e6
    npho[0, [sensor - 1, sensor + 1]] = 100.0  # 1.50977 cm away along z
    npho[0, [sensor - 44, sensor + 44]] = 200.0  # a chord of 1.3496771 degrees: 1.53042 cm
    chord = 2 * 64.97 * math.sin(math.radians(1.3496771 / 2))
    wanted = (100 / 1.5097721 + 200 / chord) / (1 / 1.5097721 + 1 / chord)
    assert nearest_mean(npho, hidden).item() == pytest.approx(wanted, rel=1e-6)
    assert nearest_mean(npho, hidden, 2).item() == pytest.approx(100.0)
    npho[0, sensor - 1] = INVALID
    assert nearest_mean(npho, hidden, 2).item() == pytest.approx(
        (100 / 1.5097721 + 200 / chord) / (1 / 1.5097721 + 1 / chord)
    )


def test_solid_angles_are_exact_where_light_is_proportional_to_them() -> None:
    uvw = torch.tensor([[2.0, 11.0, 4.0], [-9.0, 40.0, 15.0]], dtype=torch.float64)
    points = to_xyz(uvw)
    npho = 1e7 * sensor_solid_angles(points)
    hidden = torch.zeros_like(npho, dtype=torch.bool)
    hidden[:, [2300, 4120, 4309, 4600]] = True
    seen = npho[hidden] > 0
    found = solid_angle_mean(npho, hidden, points)
    torch.testing.assert_close(found[seen], npho[hidden][seen], rtol=1e-9, atol=0)


def test_few_photons_leave_solid_angles_aside() -> None:
    npho = torch.zeros(1, SENSORS, dtype=torch.float64)
    hidden = torch.zeros(1, SENSORS, dtype=torch.bool)
    hidden[0, 2000] = True
    points = torch.tensor(to_xyz(np.array([[0.0, 0.0, 3.0]])))
    for total, same in ((50.0, True), (50.1, False)):
        npho[0, 2001] = total
        mean = neighbour_mean(npho, hidden)
        assert torch.equal(solid_angle_mean(npho, hidden, points), mean) == same


def test_nothing_hidden_is_nothing_found() -> None:
    npho = torch.zeros(2, SENSORS)
    hidden = torch.zeros(2, SENSORS, dtype=torch.bool)
    points = light_centroid(npho, hidden)
    for found in (
        neighbour_mean(npho, hidden),
        nearest_mean(npho, hidden),
        solid_angle_mean(npho, hidden, points),
    ):
        assert found.shape == (0,)
        assert found.dtype == torch.float32


def test_the_centroid_ignores_what_is_hidden() -> None:
    batch = gammas(3)
    hidden = torch.zeros_like(batch["npho"], dtype=torch.bool)
    before = light_centroid(batch["npho"], hidden)
    assert (to_uvw(before)[:, :2] - batch["uvw"][:, :2]).abs().max() < 1.0
    torch.testing.assert_close(to_uvw(before)[:, 2], torch.full((3,), 3.0), rtol=0, atol=1e-4)
    hidden[:, 4091] = True
    batch["npho"][:, 4091] = 1e7
    torch.testing.assert_close(light_centroid(batch["npho"], hidden), before)
