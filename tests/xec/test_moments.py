import math

import numpy as np
import pytest
import torch
from gammas import gammas
from numpy.typing import NDArray

from sciml.xec.data.statistics import Line
from sciml.xec.physics.anchors import Conventional
from sciml.xec.physics.constants import INNER, INVALID
from sciml.xec.physics.coordinates import to_uvw
from sciml.xec.physics.moments import (
    DEPTH_TERMS,
    PLACE_TERMS,
    depth_terms,
    moments,
    place_terms,
)
from sciml.xec.physics.reflections import reflection
from sciml.xec.physics.sensors import sensors
from sciml.xec.physics.statistics import EventStatistics

POWERS, RADII = (0.5, 1.0, 1.5, 2.0, 3.0), (4.0, 7.0, 15.0)


def slow(npho: NDArray[np.float64], row: int, col: int) -> tuple[list[list[float]], ...]:
    """Centroids and widths, a sensor at a time, from the table of their positions."""
    uv = to_uvw(sensors().position[:INNER])[:, :2]
    middle = uv[44 * row + col]
    centres, widths = [], []
    for radius in RADII:
        for power in POWERS:
            total, first, second = 0.0, np.zeros(2), np.zeros(2)
            for r in range(max(row - 10, 0), min(row + 10, 93)):
                for c in range(max(col - 10, 0), min(col + 10, 44)):
                    step = uv[44 * r + c] - middle
                    if step @ step < radius**2:
                        weight = (npho[44 * r + c] / npho.max()) ** power
                        total, first = total + weight, first + weight * step
                        second = second + weight * step**2
            centres.append((first / total).tolist())
            widths.append(np.sqrt(second / total - (first / total) ** 2).tolist())
    return centres, widths


@pytest.mark.parametrize("place", [(40, 20), (2, 41)])
def test_moments_are_those_of_a_loop_over_sensors(place: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    npho = rng.gamma(1.0, 100.0, INNER)
    found = moments(
        torch.from_numpy(npho)[None],
        torch.ones(1, INNER, dtype=torch.bool),
        torch.tensor([place]),
    )
    centres, widths = slow(npho, *place)
    # the window's brightest sensor and not that of the face sets the scale, which drops out
    np.testing.assert_allclose(found.centre[0].numpy(), centres, atol=1e-9)
    np.testing.assert_allclose(found.width[0].numpy(), widths, rtol=1e-7)


def test_a_dead_sensor_counts_as_the_mean_of_its_live_neighbours() -> None:
    npho = gammas(1)["npho"][:, :INNER].double()
    dead = npho.clone()
    middle = 44 * 40 + 20
    around = [middle + 44 * r + c for r in (-1, 0, 1) for c in (-1, 0, 1)]
    around.remove(middle)
    npho[0, middle] = npho[0, around].mean()
    alive = torch.ones_like(npho, dtype=torch.bool)
    place = torch.tensor([[41, 21]])
    whole = moments(npho, alive, place)
    alive[0, middle], dead[0, middle] = False, 0.0
    for one, other in zip(whole, moments(dead, alive, place), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_darkness_has_neither_place_nor_width() -> None:
    found = moments(torch.zeros(1, INNER), torch.ones(1, INNER) > 0, torch.tensor([[0, 0]]))
    assert not found.centre.any()
    assert not found.width.any()
    assert depth_terms(found).isfinite().all()


@pytest.mark.parametrize(("mirror", "sign"), [("z", (-1, 1)), ("y", (1, -1))])
def test_mirrored_events_have_mirrored_places(mirror: str, sign: tuple[int, int]) -> None:
    torch.manual_seed(0)
    module = Conventional().double()
    module.place.normal_()
    module.depth_line.normal_(std=0.1)
    batch = {name: values.double() for name, values in gammas(6).items()}
    image = torch.tensor(reflection(mirror))  # type: ignore[arg-type]
    one = module(batch["npho"], batch["relative_time"])
    other = module(batch["npho"][:, image], batch["relative_time"][:, image])
    # a window of an even number of sensors is not its own mirror image: its last row is beyond
    # the largest radius
    signs = torch.tensor(sign).double()
    torch.testing.assert_close(other.spot, one.spot * signs, rtol=0, atol=1e-8)
    torch.testing.assert_close(other.depth, one.depth, rtol=0, atol=1e-8)


def test_without_statistics_the_place_is_the_centroid() -> None:
    batch = gammas(3)
    found = Conventional()(batch["npho"], batch["relative_time"])
    assert torch.equal(found.spot, found.uv)
    assert found.depth.tolist() == pytest.approx([math.exp(1.3) - 0.5] * 3, rel=1e-5)


def test_corrections_stay_in_bounds() -> None:
    module = Conventional()
    place, line = np.full((2, PLACE_TERMS), 1e6, "f4"), np.full(DEPTH_TERMS, 1e6, "f4")
    numbers = np.full(6, 1e-7, np.float32), (0.0, 0.0), 4.0, 10
    module.set_statistics(EventStatistics(*numbers, place, line))
    batch = gammas(4)
    batch["npho"][0] = INVALID
    found = module(batch["npho"], batch["relative_time"])
    assert ((found.spot - found.uv).abs() <= 5).all()
    assert ((found.depth > 0) & (found.depth < 43)).all()


def test_terms_are_as_many_as_they_say() -> None:
    batch = gammas(2)
    found = Conventional()(batch["npho"], batch["relative_time"]).moments
    assert place_terms(found, torch.zeros(2, 2)).shape == (2, 2, PLACE_TERMS)
    assert depth_terms(found).shape == (2, DEPTH_TERMS)


def test_a_line_is_that_of_least_squares() -> None:
    rng = np.random.default_rng(1)
    terms, values = rng.normal(size=(300, 4)) * [1, 10, 0.1, 3], rng.normal(size=300)
    line = Line(4)
    for part in (slice(0, 100), slice(100, 300)):
        line.add(torch.from_numpy(terms[part]), torch.from_numpy(values[part]))
    line.add(torch.full((1, 4), torch.nan), torch.zeros(1))  # counts as no event
    expected, *_ = np.linalg.lstsq(terms, values, rcond=None)
    assert line.count == 300
    np.testing.assert_allclose(line.solve(0.0), expected, rtol=1e-5)
    assert (np.abs(line.solve(10.0)) < np.abs(line.solve(0.0))).all()
