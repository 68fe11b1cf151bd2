import pytest
from scipy import constants

from sciml.core import units


def test_atomic_units_are_those_of_codata() -> None:
    # scipy has the CODATA set of its own release (2018 or 2022, which differ in the 10th digit)
    assert pytest.approx(constants.value("Hartree energy in eV"), rel=1e-9) == units.HARTREE
    assert pytest.approx(constants.value("Bohr radius") * 1e10, rel=1e-9) == units.BOHR


def test_derivatives_in_atomic_units() -> None:
    assert pytest.approx(51.42206747, abs=1e-8) == units.HARTREE_PER_BOHR  # CODATA 2018, eV/Å
    assert pytest.approx(97.17362, abs=1e-5) == units.HARTREE_PER_BOHR2  # eV/Å²
