from collections.abc import Callable

import numpy as np
import pytest
from ase.build import molecule
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sciml.hip.generate.engines import Engine, Labels, NotConvergedError, make_engine
from sciml.hip.generate.search import (
    bfgs_update,
    bofill_update,
    climb,
    closest,
    find_minimum,
    rfo_step,
    vibrations,
)

Array = NDArray[np.float64]


class TwoAtoms(Engine):
    """Two atoms whose energy is a polynomial of their distance.

    Args:
        coefficients: Highest power first.
    """

    def __init__(self, coefficients: list[float]) -> None:
        self.curve = np.poly1d(coefficients)

    def energy_forces(self, positions: Array) -> tuple[float, Array]:
        vector = positions[1] - positions[0]
        length = np.linalg.norm(vector)
        force = self.curve.deriv()(length) * vector / length
        return float(self.curve(length)), np.array([force, -force])

    def labels(self, positions: Array) -> Labels:
        energy, forces = self.energy_forces(positions)
        vector = positions[1] - positions[0]
        length = np.linalg.norm(vector)
        along = np.outer(vector, vector) / length**2
        slope, curvature = self.curve.deriv()(length), self.curve.deriv(2)(length)
        block = curvature * along + slope / length * (np.eye(3) - along)
        return Labels(energy, forces, np.block([[block, -block], [-block, block]]))


HARMONIC = [10.0, -20.0, 10.0]  # 10 (r - 1)² eV
HILL = [-10.0, 40.0, -40.0]  # -10 (r - 2)² eV


def apart(length: float) -> Array:
    return np.array([[0.3, -0.2, 0.1], [0.3, -0.2 + length, 0.1]])


@pytest.mark.parametrize(("curve", "uphill"), [(HARMONIC, 0), (HILL, 1)])
def test_the_step_of_a_spring_has_a_closed_form(curve: list[float], uphill: int) -> None:
    # along the unit vector of the stretch: slope √2 E', curvature 2 E''; the shift is the outer
    # eigenvalue of [[k, g], [g, 0]], ½(k ± √(k² + 4g²))
    labels = TwoAtoms(curve).labels(apart(1.5))
    step = rfo_step(-labels.forces, labels.hessian, apart(1.5), uphill=uphill, trust=10.0)
    slope, curvature = np.sqrt(2) * 10.0, 40.0 * (-1) ** uphill
    root = np.sqrt(curvature**2 + 4 * slope**2)
    shift = (curvature + (root if uphill else -root)) / 2
    move = -slope / (curvature - shift) / np.sqrt(2)
    np.testing.assert_allclose(step, [[0, -move, 0], [0, move, 0]], atol=1e-12)


def test_a_step_is_no_longer_than_the_trust_radius_and_moves_nothing_as_a_whole() -> None:
    rng = np.random.default_rng(0)
    positions, gradient = rng.normal(size=(2, 5, 3))
    hessian = rng.normal(size=(15, 15))
    step = rfo_step(gradient, hessian + hessian.T, positions, trust=0.2)
    assert np.linalg.norm(step) == pytest.approx(0.2)
    centered = positions - positions.mean(0)
    np.testing.assert_allclose(step.sum(0), 0, atol=1e-12)
    np.testing.assert_allclose(np.cross(centered, step).sum(0), 0, atol=1e-12)


def test_a_step_turns_with_the_molecule() -> None:
    rng = np.random.default_rng(1)
    positions, gradient = rng.normal(size=(2, 4, 3))
    hessian = rng.normal(size=(12, 12))
    hessian = hessian + hessian.T
    turn = Rotation.random(rng=2).as_matrix()
    whole = np.kron(np.eye(4), turn)
    step = rfo_step(gradient, hessian, positions, uphill=1)
    turned = rfo_step(gradient @ turn.T, whole @ hessian @ whole.T, positions @ turn.T, uphill=1)
    np.testing.assert_allclose(turned, step @ turn.T, atol=1e-10)


@pytest.mark.parametrize("update", [bfgs_update, bofill_update])
def test_an_updated_hessian_is_symmetric_and_explains_the_step(
    update: Callable[[Array, Array, Array], Array],
) -> None:
    rng = np.random.default_rng(2)
    root = rng.normal(size=(6, 6))
    step = rng.normal(size=(2, 3))
    change = (root @ root.T @ step.ravel()).reshape(2, 3)  # of a surface that is convex
    after = update(np.eye(6), step, change)
    np.testing.assert_allclose(after, after.T, atol=1e-12)
    np.testing.assert_allclose(after @ step.ravel(), change.ravel(), atol=1e-10)
    np.testing.assert_array_equal(update(np.eye(6), 0 * step, change), np.eye(6))


def test_bfgs_keeps_a_convex_hessian_where_the_curvature_is_negative() -> None:
    step = np.ones((2, 3))
    np.testing.assert_array_equal(bfgs_update(np.eye(6), step, -step), np.eye(6))


def test_the_minimum_of_a_spring_is_found_with_its_frequency() -> None:
    minimum = find_minimum(TwoAtoms(HARMONIC), np.array([1, 1]), apart(2.5))
    assert closest(minimum.positions) == pytest.approx(1.0, abs=1e-4)
    # reduced mass m/2 of two hydrogen atoms of 1.008 amu
    np.testing.assert_allclose(minimum.eigenvalues, [20 / 0.504], rtol=1e-3)


def test_the_top_of_a_hill_is_climbed() -> None:
    top = climb(TwoAtoms(HILL), apart(1.4), 20, nearest=0.4)
    assert closest(top) == pytest.approx(2.0, abs=1e-4)


def test_climbing_stops_before_atoms_meet() -> None:
    falling = TwoAtoms([-1.0, 0.0])  # uphill is inward
    assert 0.4 <= closest(climb(falling, apart(1.0), 50, nearest=0.4)) < 0.6


def test_no_steps_leave_the_start() -> None:
    np.testing.assert_array_equal(climb(TwoAtoms(HILL), apart(1.4), 0, nearest=0.4), apart(1.4))


def test_a_relaxation_without_end_is_an_error() -> None:
    with pytest.raises(NotConvergedError, match="did not converge in 5 steps"):
        find_minimum(TwoAtoms([-1.0, 0.0]), np.array([1, 1]), apart(1.0), steps=5)


def test_displacements_of_a_mode_have_its_curvature() -> None:
    rng = np.random.default_rng(3)
    positions = rng.normal(size=(4, 3))
    hessian = rng.normal(size=(12, 12))
    hessian = hessian + hessian.T
    values, moves = vibrations(np.array([1, 6, 7, 8]), positions, hessian)
    flat = moves.reshape(len(values), 12)
    np.testing.assert_allclose(flat @ hessian @ flat.T, np.diag(values), atol=1e-10)


@pytest.mark.qm
def test_flat_ammonia_relaxes_to_the_pyramid_and_climbs_back() -> None:
    pytest.importorskip("tblite")
    pyramid = molecule("NH3")
    numbers = pyramid.numbers.astype(np.int64)
    engine = make_engine("gfn2-xtb", numbers.tolist())
    flat = pyramid.positions * [1, 1, 0]
    minimum = find_minimum(engine, numbers, flat)
    assert height(minimum.positions) > 0.2  # Å; 0.38 measured
    low = pyramid.positions * [1, 1, 0.4]
    saddle = climb(engine, low, 20, nearest=0.4)
    assert height(saddle) == pytest.approx(0, abs=0.02)
    values, _ = vibrations(numbers, saddle, engine.labels(saddle).hessian)
    assert (values < -1e-3).sum() == 1


def height(positions: Array) -> float:
    """Distance of the first atom from the plane of the other three."""
    a, b, c = positions[1:]
    normal = np.cross(b - a, c - a)
    return abs(float((positions[0] - a) @ normal)) / float(np.linalg.norm(normal))


def test_an_atom_alone_has_no_closest_pair() -> None:
    assert closest(np.zeros((1, 3))) == float("inf")
