import math

import numpy as np
import pytest
from numpy.typing import NDArray

from sciml.xec.generate.light import PHOTON, LightModel, expected_light
from sciml.xec.generate.shower import Gamma, draw_gamma, spectrum_of
from sciml.xec.physics.constants import INNER, SENSORS
from sciml.xec.physics.reflections import Mirror, reflection
from sciml.xec.physics.sensors import sensors
from sciml.xec.physics.solid_angle import shadowed

INDEX_TIME = 1.61 / 29.979  # ns/cm of light in xenon
SIGNS = {"z": (1, 1, -1), "y": (1, -1, 1), "zy": (1, -1, -1)}
TRACKS = 8  # the first deposits of a gamma


@pytest.fixture(scope="module")
def gammas() -> list[Gamma]:
    rng = np.random.default_rng(3)
    return [draw_gamma(rng, "free", spectrum_of("mix")) for _ in range(25)]


def one_place(
    place: tuple[float, float, float], delay: float = 0.0
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Light of a million photons and its times, from the model in double precision."""
    model = LightModel(1, np.float64)
    return model(np.array([place]), np.array([1e6]), np.array([delay]))


def by_hand(place: tuple[float, float, float], sensor: int) -> tuple[float, float, float]:
    """Direct and diffuse light of a million photons, and the distance, one sensor at a time."""
    table = sensors()
    step = np.array(place) - table.position[sensor]
    distance = math.sqrt(step @ step)
    cosine = step @ table.normal[sensor] / distance
    area = math.pi * 2.25**2 if table.pmt[sensor] else 4 * 0.59**2
    if cosine <= 0 or shadowed(np.array([place]), table.position[[sensor]])[0, 0]:
        direct = 0.0
    elif table.pmt[sensor]:
        direct = 0.5 * (1 - 1 / math.sqrt(1 + 2.25**2 * cosine / distance**2))
    elif distance >= 8:
        direct = area * cosine / (4 * math.pi * distance**2)
    else:
        direct = square(step, table.normal[sensor]) * 4 * 0.59**2 / 1.23**2
    direct *= (1 - (1 - cosine) ** 5) * math.exp(-distance * (1 / 150 + 1 / 45))
    diffuse = 0.30 * area / (4 * math.pi * (distance**2 + 400)) * math.exp(-distance / 60)
    return 1e6 * direct, 1e6 * diffuse, distance


def square(step: NDArray[np.floating], normal: NDArray[np.floating]) -> float:
    """Share of the sphere that a square of 1.23 cm covers, as the sum of 400 × 400 pieces."""
    middles = (np.arange(400) + 0.5) * 1.23 / 400 - 1.23 / 2
    across = np.cross(normal, (0.0, 0.0, 1.0))
    pieces = middles[:, None, None] * across + middles[None, :, None] * np.array([0.0, 0.0, 1.0])
    line = step - pieces
    lengths = np.sqrt((line**2).sum(-1))
    return float((line @ normal / lengths**3).sum() * (1.23 / 400) ** 2 / (4 * math.pi))


PLACES = [(-70.0, 4.0, 3.0), (-66.5, -20.0, -11.0), (-45.0, 70.0, 20.0), (-98.0, 1.0, -30.0)]


@pytest.mark.parametrize("place", PLACES)
def test_light_is_the_sum_of_its_parts(place: tuple[float, float, float]) -> None:
    light, late = one_place(place, delay=0.7)
    distances = np.sqrt(((sensors().position - place) ** 2).sum(1))
    chosen = [*range(0, SENSORS, 97), *np.argsort(distances)[:12], 4200, 4310, 4500, 4620, 4700]
    for sensor in chosen:
        direct, diffuse, distance = by_hand(place, sensor)
        path = distance * INDEX_TIME
        time = (direct * path + diffuse * (1.25 * path + 2)) / (direct + diffuse) + 0.7
        assert light[sensor] == pytest.approx(direct + diffuse, rel=1e-4)
        assert late[sensor] == pytest.approx(time, abs=1e-3)


def test_near_and_far_sensors_were_both_looked_at() -> None:
    # what the test above compares is no accident of its places
    distances = [np.sqrt(((sensors().position - place) ** 2).sum(1)) for place in PLACES]
    assert sum((one[:INNER] < 8).sum() for one in distances) > 50
    assert shadowed(np.array(PLACES), sensors().position[INNER:]).any()


@pytest.mark.parametrize("mirror", ["z", "y", "zy"])
def test_light_of_a_mirrored_shower_is_mirrored(mirror: Mirror, gammas: list[Gamma]) -> None:
    model = LightModel(dtype=np.float64)
    for gamma in gammas:
        light, late = expected_light(gamma, model)
        places = gamma.places * SIGNS[mirror]
        mirrored = model(places, gamma.deposits / PHOTON, gamma.delays)
        image = reflection(mirror)
        np.testing.assert_allclose(mirrored[0][image], light, rtol=1e-12)
        np.testing.assert_allclose(mirrored[1][image], late, rtol=1e-12)


def test_single_precision_is_enough(gammas: list[Gamma]) -> None:
    single, double = LightModel(), LightModel(dtype=np.float64)
    for gamma in gammas:
        light, late = expected_light(gamma, single)
        assert light.dtype == np.float32
        exact, when = expected_light(gamma, double)
        np.testing.assert_allclose(light, exact, rtol=1e-5)
        np.testing.assert_allclose(late, when, atol=1e-4)


def test_light_is_proportional_to_the_energy(gammas: list[Gamma]) -> None:
    model = LightModel(dtype=np.float64)
    light, late = expected_light(gammas[0], model)
    double, when = expected_light(gammas[0], model, scale=2.0)
    np.testing.assert_allclose(double, 2 * light, rtol=1e-12)
    np.testing.assert_allclose(when, late, rtol=1e-12)


def test_sensors_see_a_part_of_all_photons(gammas: list[Gamma]) -> None:
    model = LightModel()
    shares = [
        expected_light(gamma, model)[0].sum() / (gamma.deposited / PHOTON) for gamma in gammas
    ]
    # the faces cover most of the sphere, of which the inner one half; direct light is attenuated
    assert 0.1 < min(shares) < max(shares) < 0.5


def test_lost_deposits_give_no_light() -> None:
    rng = np.random.default_rng(0)
    while (gamma := draw_gamma(rng, "free", spectrum_of("mix"))).deposits.all():
        pass
    kept = gamma.deposits > 0
    light, _ = expected_light(gamma, LightModel(dtype=np.float64))
    model = LightModel(int(kept.sum()), np.float64)
    alone, _ = model(gamma.places[kept], gamma.deposits[kept] / PHOTON, gamma.delays[kept])
    np.testing.assert_allclose(light, alone, rtol=1e-12)
