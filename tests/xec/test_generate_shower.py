import numpy as np
import pytest

from sciml.xec.generate.settings import Spectrum, Vertex
from sciml.xec.generate.shower import (
    PILEUP,
    Gamma,
    draw_gamma,
    pileup_energy,
    spectrum_of,
)
from sciml.xec.physics.coordinates import emission_angles, in_volume, opening_angle, to_uvw


def draw(count: int, vertex: Vertex, spectrum: Spectrum = "mix", seed: int = 0) -> list[Gamma]:
    rng = np.random.default_rng(seed)
    return [draw_gamma(rng, vertex, spectrum_of(spectrum)) for _ in range(count)]


def directions(gammas: list[Gamma]) -> np.ndarray:
    steps = np.array([gamma.interaction - gamma.vertex for gamma in gammas])
    return steps / np.linalg.norm(steps, axis=1, keepdims=True)


def entrances(gammas: list[Gamma]) -> np.ndarray:
    """Where straight lines from vertices in the hole first reach the inner surface."""
    start, way = np.array([gamma.vertex for gamma in gammas]), directions(gammas)
    square = (way[:, :2] ** 2).sum(1)
    half = (start[:, :2] * way[:, :2]).sum(1) / square
    rest = ((start[:, :2] ** 2).sum(1) - 64.97**2) / square
    return start + (np.sqrt(half**2 - rest) - half)[:, None] * way


def test_gammas_from_the_target_fly_as_they_should() -> None:
    gammas = draw(300, "target")
    vertices = np.array([gamma.vertex for gamma in gammas])
    np.testing.assert_allclose(vertices[:, 2], -vertices[:, 0] / np.tan(np.radians(15)))
    # 1.1 cm in x and y; the error of a standard deviation from 300 is 4 %
    np.testing.assert_allclose(vertices[:, :2].std(0), 1.1, rtol=0.15)
    angles = emission_angles(directions(gammas))
    assert np.abs(np.cos(np.radians(angles[:, 0]))).max() < 0.40
    assert np.abs(angles[:, 1]).max() < 62.76
    assert np.abs(angles[:, 1]).max() > 55


def test_free_gammas_come_in_everywhere_within_40_degrees() -> None:
    gammas = draw(300, "free")
    way, place = directions(gammas), entrances(gammas)
    u, v, w = to_uvw(place).T
    np.testing.assert_allclose(w, 0, atol=1e-9)
    assert np.abs(u).max() < 27
    assert np.abs(v).max() < 70
    np.testing.assert_allclose([np.abs(u).mean(), np.abs(v).mean()], [13.5, 35], rtol=0.12)
    radial = place * (1, 1, 0)
    angle = opening_angle(radial, way)
    assert angle.max() < 40
    # uniform in the cosine between cos 40° and 1
    assert np.cos(np.radians(angle)).mean() == pytest.approx((1 + np.cos(np.radians(40))) / 2, 0.01)


def test_free_vertices_are_where_the_line_is_nearest_to_the_axis() -> None:
    gammas = draw(50, "free")
    way = directions(gammas)
    vertices = np.array([gamma.vertex for gamma in gammas])
    along = (vertices[:, :2] * way[:, :2]).sum(1)
    np.testing.assert_allclose(along, 0, atol=1e-9)


def test_interactions_lie_in_the_xenon_at_the_mean_depth() -> None:
    gammas = draw(600, "target", "signal")
    places = np.array([gamma.interaction for gamma in gammas])
    assert in_volume(places).all()
    depth = np.linalg.norm(places - entrances(gammas), axis=1)
    # Exp(5.4 (50/52.83)^0.17 cm) has the standard error 0.22 cm here; few leave through a side
    assert depth.mean() == pytest.approx(5.35, abs=0.7)


def test_energies_follow_the_spectrum() -> None:
    rng = np.random.default_rng(0)
    mix = np.array([spectrum_of("mix")(rng) for _ in range(4000)])
    signal = np.abs(mix - 52.83) < 1e-9
    assert signal.mean() == pytest.approx(0.35, abs=0.03)
    flat = np.array([spectrum_of("flat")(rng) for _ in range(1000)])
    for part in (mix[~signal], flat):
        assert 15 <= part.min() < 16
        assert 59 < part.max() <= 60
        assert part.mean() == pytest.approx(37.5, abs=1.5)
    assert spectrum_of("signal")(rng) == pytest.approx(52.83, abs=1e-12)
    second = np.array([pileup_energy(rng) for _ in range(2000)])
    assert second.min() >= PILEUP[0]
    assert second.max() <= PILEUP[2]
    # mean of 15 + Exp(8) cut at 50: 15 + 8 - 35 exp(-35/8)/(1 - exp(-35/8))
    assert second.mean() == pytest.approx(22.55, abs=0.6)


def test_energy_is_in_the_deposits_or_outside() -> None:
    gammas = draw(300, "free")
    deposited = np.array([gamma.deposited for gamma in gammas])
    energy = np.array([gamma.energy for gamma in gammas])
    lost = np.array([(gamma.deposits == 0).any() for gamma in gammas])
    np.testing.assert_allclose(deposited[~lost], energy[~lost], rtol=1e-12)
    assert (deposited[lost] < energy[lost]).all()
    assert 0.01 < lost.mean() < 0.1
    assert deposited.min() >= 14.5
    for gamma in gammas:
        assert in_volume(gamma.places).all()
        assert (gamma.places[gamma.deposits == 0] == gamma.interaction).all()


def test_deposits_lie_behind_the_interaction() -> None:
    gammas = draw(300, "free", "signal")
    way = directions(gammas)
    along = np.array([gamma.delays for gamma in gammas]) * 29.979
    # the track begins 0.02 cm behind the interaction, its deposits are sorted
    np.testing.assert_allclose(along[:, 0], 0.02)
    assert (np.diff(along[:, 1:8], axis=1) >= 0).all()
    assert along[:, 8:].min() >= 0.5
    # secondary photons go 0.5 + 4.2 cm on the average of 1800, with an error of 0.1
    assert along[:, 8:].mean() == pytest.approx(4.7, abs=0.4)
    steps = np.array([gamma.places - gamma.interaction for gamma in gammas])
    kept = np.array([gamma.deposits > 0 for gamma in gammas])
    projected = (steps * way[:, None]).sum(-1)
    np.testing.assert_allclose(projected[kept], along[kept], atol=1e-9)
    across = steps - projected[..., None] * way[:, None]
    spread = np.where(np.arange(14) < 8, 0.12 + 0.22 * along, 0.33 * along)
    pull = np.linalg.norm(across, axis=-1)[kept] / spread[kept]
    assert (pull**2).mean() == pytest.approx(2, rel=0.06)  # two directions of unit variance


def test_flight_is_at_the_speed_of_light() -> None:
    (gamma,) = draw(1, "target")
    length = np.linalg.norm(gamma.interaction - gamma.vertex)
    assert gamma.flight == pytest.approx(length / 29.979)
