import math

import numpy as np
import pytest
import torch
from gammas import anchors_of, gammas
from numpy.typing import NDArray
from scipy.optimize import least_squares
from torch import Tensor

from sciml.xec.generate.light import LightModel
from sciml.xec.physics.anchors import Anchors
from sciml.xec.physics.constants import INNER, INVALID, RADIUS, SENSORS
from sciml.xec.physics.coordinates import to_uvw, to_xyz
from sciml.xec.physics.light_fit import LightFit, direct_light, fit_light, fitted_light
from sciml.xec.physics.reflections import reflection
from sciml.xec.physics.sensors import sensors
from sciml.xec.physics.solid_angle import rectangle, sensor_solid_angles

INNER_UV = torch.tensor(to_uvw(sensors().position[:INNER])[:, :2])
PLACES = [  # u, v, w in cm: deep, shallow, in a corner, below a sensor and between four
    (3.0, -20.0, 12.0),
    (-8.0, 31.0, 0.8),
    (22.9, 67.0, 3.0),
    (0.5 * 1.5097721, 0.0, 2.0),
    (0.0, RADIUS * math.radians(0.5 * 1.3496771), 25.0),
]


def by_hand(uvw: tuple[float, float, float], sensor: int) -> float:
    """Direct light on a SiPM: the square as it lies, the window, and what is lost on the way."""
    table = sensors()
    step = to_xyz(np.array(uvw)) - table.position[sensor]
    normal = table.normal[sensor]
    height, z = step @ normal, step[2]
    across = step @ np.cross(normal, [0, 0, 1])
    if height <= 0:
        return 0.0
    half = 1.23 / 2  # two chips of 0.59 cm and the gap of 0.05 cm
    edges = ((across - half, across + half), (z - half, z + half))
    solid = rectangle(*(tuple(map(np.float64, pair)) for pair in edges), np.float64(height))
    distance = math.sqrt(step @ step)
    window = 1 - (1 - height / distance) ** 5
    share = 4 * 0.59**2 / 1.23**2
    return float(solid * share * window * math.exp(-distance * (1 / 150 + 1 / 45)))


def everywhere(uvw: Tensor) -> Tensor:
    return direct_light(uvw, INNER_UV.expand(len(uvw), -1, -1))[0]


def events(
    places: list[tuple[float, float, float]], amplitude: float = 1e6, constant: float = 15.0
) -> tuple[Anchors, Tensor]:
    """Anchors of events that are exactly a point of light and a constant, and the points."""
    uvw = torch.tensor(places, dtype=torch.float64)
    npho = torch.zeros(len(places), SENSORS, dtype=torch.float64)
    npho[:, :INNER] = amplitude * everywhere(uvw) + constant
    return anchors_of(npho), uvw


@pytest.mark.parametrize("place", PLACES)
def test_direct_light_is_that_of_the_formula(place: tuple[float, float, float]) -> None:
    light = everywhere(torch.tensor([place], dtype=torch.float64))[0]
    chosen = [*light.argsort(descending=True)[:60:7].tolist(), 0, 43, 2046, 4091]
    for sensor in chosen:
        assert light[sensor].item() == pytest.approx(by_hand(place, sensor), rel=1e-9, abs=1e-300)


def test_the_square_sees_what_the_four_chips_see() -> None:
    uvw = torch.tensor(PLACES[:1], dtype=torch.float64)
    chips = sensor_solid_angles(to_xyz(uvw), range(INNER))[0]
    step = to_xyz(uvw) - torch.tensor(sensors().position[:INNER])
    distance = step.norm(dim=1)
    cosine = (step * torch.tensor(sensors().normal[:INNER])).sum(1) / distance
    rest = (1 - (1 - cosine) ** 5) * torch.exp(-distance * (1 / 150 + 1 / 45))
    seen = chips > 0
    # second moments of the areas differ by 0.005 cm²: 3 x 0.005 / (12 cm)² where light is straight
    torch.testing.assert_close(everywhere(uvw)[0][seen], (chips * rest)[seen], rtol=2e-4, atol=0)


def test_derivatives_of_the_light_are_those_of_autograd() -> None:
    uvw = torch.tensor(PLACES, dtype=torch.float64)
    places = INNER_UV[torch.arange(0, INNER, 29)].expand(len(uvw), -1, -1)
    found = direct_light(uvw, places)[1]
    whole = torch.autograd.functional.jacobian(lambda x: direct_light(x, places)[0], uvw)
    own = torch.stack([whole[event, :, event] for event in range(len(uvw))])
    torch.testing.assert_close(found, own, rtol=1e-9, atol=1e-15)


def test_a_point_of_light_is_found_exactly() -> None:
    anchors, uvw = events(PLACES)
    fit = fit_light(anchors)
    torch.testing.assert_close(fit.uvw, uvw, rtol=0, atol=1e-5)  # cm
    torch.testing.assert_close(fit.amplitude, torch.full((5,), 1e6).double(), rtol=1e-5, atol=0)
    torch.testing.assert_close(fit.constant, torch.full((5,), 15.0).double(), rtol=0, atol=1e-2)
    assert fit.misfit.max() < 1e-6
    near = anchors.light[:, :INNER] > 100
    expected = fitted_light(fit)[near]
    torch.testing.assert_close(expected, anchors.light[:, :INNER][near], rtol=1e-4, atol=0)


def test_dead_sensors_do_not_move_a_fit() -> None:
    anchors, uvw = events(PLACES)
    npho = anchors.light.clone()
    npho[:, ::5] = INVALID
    npho[0, 1] = torch.nan
    torch.testing.assert_close(fit_light(anchors_of(npho)).uvw, uvw, rtol=0, atol=1e-5)


def slow_fit(anchors: Anchors, event: int, depth: float) -> tuple[NDArray[np.float64], float]:
    """The same least squares with all five parameters, by scipy."""
    peak = int(anchors.place[event] @ torch.tensor([44, 1]))
    gap = (INNER_UV - INNER_UV[peak]).norm(dim=1)
    used = (gap < 6 + 0.8 * depth) & anchors.alive[event, :INNER]
    n = anchors.light[event, :INNER][used].double().numpy()
    sigma = np.sqrt((1.35 * 0.12 * n.clip(0) + 1.5**2) / 0.12**2 + (0.05 * n) ** 2)

    def residuals(x: NDArray[np.float64]) -> NDArray[np.float64]:
        place = torch.tensor([[x[0], x[1], math.exp(x[2])]], dtype=torch.float64)
        light = direct_light(place, INNER_UV[used][None])[0][0].numpy()
        return np.asarray((n - math.exp(x[3]) * light - x[4]) / sigma)

    start = [*anchors.uv[event].tolist(), math.log(depth), math.log(1e6), 10.0]
    done = least_squares(residuals, start, x_scale="jac", xtol=1e-12, ftol=1e-12, gtol=1e-12)
    found = np.array([*done.x[:2], math.exp(done.x[2]), math.exp(done.x[3]), done.x[4]])
    return found, 2 * done.cost / (used.sum().item() - 5)


def test_a_noisy_fit_is_that_of_scipy() -> None:
    anchors, _ = events(PLACES[:3], amplitude=8e5)
    torch.manual_seed(0)
    light = anchors.light.clone()
    light += (light / 0.12).sqrt() * torch.randn_like(light)
    anchors = anchors_of(light)
    fit = fit_light(anchors)
    for event in range(3):
        slow = {depth: slow_fit(anchors, event, depth) for depth in (1.5, 4.0, 9.0, 18.0)}
        start = min(slow, key=lambda depth: abs(math.log(slow[depth][0][2] / depth)))
        numbers = (*fit.uvw[event], fit.amplitude[event], fit.constant[event])
        assert torch.stack(numbers).numpy() == pytest.approx(slow[start][0], rel=1e-4)
        assert fit.misfit[event].item() == pytest.approx(slow[start][1], rel=1e-6)


@pytest.mark.parametrize("depth", [0.7, 3.0, 10.0])
def test_the_generator_s_light_leads_back_to_its_place(depth: float) -> None:
    uvw = np.array([[5.1, -33.3, depth]])
    light, _ = LightModel(1, np.float64)(to_xyz(uvw), np.array([2e6]), np.zeros(1))
    fit = fit_light(anchors_of(torch.from_numpy(light)[None]))
    # what is wrong is its diffuse light, which is not quite constant
    assert abs(fit.uvw[0].numpy() - uvw[0]) == pytest.approx(np.zeros(3), abs=0.06 + 0.03 * depth)
    assert abs(fit.uvw[0, :2].numpy() - uvw[0, :2]).max() < 0.02
    assert fit.amplitude.item() == pytest.approx(2e6, rel=0.1)


@pytest.mark.parametrize(("mirror", "sign"), [("z", (-1, 1, 1)), ("y", (1, -1, 1))])
def test_a_mirrored_event_has_a_mirrored_fit(mirror: str, sign: tuple[int, int, int]) -> None:
    npho = gammas(4)["npho"].double()
    order = torch.tensor(reflection(mirror))  # type: ignore[arg-type]
    before, after = fit_light(anchors_of(npho)), fit_light(anchors_of(npho[:, order]))
    torch.testing.assert_close(after.uvw, before.uvw * torch.tensor(sign), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(after.amplitude, before.amplitude, rtol=1e-6, atol=0)


def test_an_event_does_not_depend_on_the_others_of_its_batch() -> None:
    anchors, _ = events(PLACES[:3])
    whole = fit_light(anchors)
    for event in range(3):
        one = fit_light(Anchors(*(values[event : event + 1] for values in anchors)))
        torch.testing.assert_close(one.uvw[0], whole.uvw[event], rtol=1e-9, atol=1e-9)


def test_dead_and_dark_events_stay_finite() -> None:
    npho = gammas(4)["npho"]
    npho[0] = INVALID
    npho[1] = 0.0
    npho[2] = -3.0
    npho[3, :INNER] = INVALID
    fit = fit_light(anchors_of(npho))
    for values in fit:
        assert values.dtype == torch.float64
        assert values.isfinite().all()
    assert fit.uvw.shape == (4, 3)
    assert (fit.uvw[:, 2] >= 0.1).all()
    assert (fit.uvw[:, 2] <= 41).all()


def test_no_events_are_fitted_to_nothing() -> None:
    fit = fit_light(anchors_of(torch.zeros(0, SENSORS)))
    assert isinstance(fit, LightFit)
    assert fit.uvw.shape == (0, 3)
