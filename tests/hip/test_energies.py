import numpy as np
import pytest

from sciml.hip.data.energies import (
    HORM_E0,
    ISOLATED_E0,
    CompositionFit,
    reference_energies,
    total_energy,
)

TRUE = np.array([-13.5, -1030.25, -2041.75])  # eV, exact in binary
COUNTS = np.array([[4, 1, 0], [2, 0, 1], [4, 1, 1], [6, 2, 0], [0, 1, 2]], dtype=float)


def _fit(counts: np.ndarray = COUNTS, noise: float = 0.0) -> CompositionFit:
    fit = CompositionFit((1, 6, 8))
    energies = counts @ TRUE + noise * np.random.default_rng(0).normal(size=len(counts))
    for row, energy in zip(counts, energies, strict=True):  # one molecule at a time
        fit.update(row[None], np.array([energy]))
    return fit


def test_energies_of_elements_are_recovered() -> None:
    np.testing.assert_allclose(_fit().solve(), TRUE, rtol=1e-11)
    assert _fit().rank == 3


def test_fit_is_least_squares() -> None:
    # independent: numpy's own solver on all molecules at once
    counts = np.random.default_rng(1).integers(0, 9, (40, 3)).astype(float)
    energies = counts @ TRUE + np.random.default_rng(0).normal(size=40)
    expected, *_ = np.linalg.lstsq(counts, energies, rcond=None)
    np.testing.assert_allclose(_fit(counts, noise=1.0).solve(), expected, rtol=1e-9)


def test_one_composition_gives_the_smallest_energies() -> None:
    # CH4 alone: of all (h, c) with 4 h + c = E the nearest to zero is E (4, 1) / 17
    fit = _fit(np.array([[4.0, 1.0, 0.0]] * 3))
    energy = 4 * TRUE[0] + TRUE[1]
    np.testing.assert_allclose(fit.solve(), [4 * energy / 17, energy / 17, 0.0], atol=1e-9)
    assert fit.rank == 1


def test_no_molecules_give_zeros() -> None:
    fit = CompositionFit((1, 6))
    assert fit.solve().tolist() == [0.0, 0.0]
    assert fit.rank == 0


def test_known_energies_stay_and_the_rest_is_fitted() -> None:
    found = _fit().solve({1: -13.5, 6: -1030.25})
    np.testing.assert_allclose(found, TRUE, rtol=1e-12)


def test_auto_takes_what_the_files_declare() -> None:
    fit = CompositionFit((1, 8))
    assert reference_energies("auto", HORM_E0, fit).tolist() == [HORM_E0[1], HORM_E0[8]]


def test_auto_fits_an_element_the_files_leave_out() -> None:
    fit = CompositionFit((1, 9))
    fit.update(np.array([[1.0, 1.0], [0.0, 2.0]]), np.array([HORM_E0[1] - 2700, -5400.0]))
    np.testing.assert_allclose(reference_energies("auto", HORM_E0, fit), [HORM_E0[1], -2700.0])


def test_auto_without_declaration_is_the_average() -> None:
    np.testing.assert_allclose(reference_energies("auto", None, _fit()), TRUE, rtol=1e-11)
    declared = {1: 0.0, 6: 0.0, 8: 0.0}
    np.testing.assert_allclose(reference_energies("average", declared, _fit()), TRUE, rtol=1e-11)


def test_tables() -> None:
    isolated = [-13.62222753701504, -1029.4130839658328, -2041.8396277138045]  # hip.md 2.4
    assert reference_energies("isolated", HORM_E0, _fit()).tolist() == isolated
    assert reference_energies({1: 1, 6: 2.0, 8: 3.0}, None, _fit()).tolist() == [1.0, 2.0, 3.0]


def test_missing_element_is_named() -> None:
    with pytest.raises(ValueError, match=r"element O \(8\) .* no reference energy in data\.e0"):
        reference_energies({1: 1.0, 6: 2.0}, None, _fit())
    with pytest.raises(ValueError, match=r"element S \(16\)"):
        reference_energies("isolated", None, CompositionFit((16,)))
    with pytest.raises(ValueError, match="'mean'; give auto, average, isolated"):
        reference_energies("mean", None, _fit())


def test_total_energy_of_water() -> None:
    numbers = np.array([8, 1, 1])
    expected = -2041.8396277138045 + 2 * -13.62222753701504 - 10.0
    assert total_energy(-10.0, numbers, ISOLATED_E0) == pytest.approx(expected, abs=1e-12)
