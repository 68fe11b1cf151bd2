import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared import ASTROCHEM, needs_shared

from sciml.astrochem.physics.species import (
    ELEMENTS,
    canonical_name,
    charges,
    check_matrix,
    default_species,
    initial_abundances,
    parse_species,
    present_elements,
    renames,
    stoichiometric_matrix,
)

MORE = (*ELEMENTS, "P", "FE", "F", "NA", "LI", "D", "13C", "15N", "18O")
TABLE = [  # name, phase, charge, atoms counted by hand
    ("H", "gas", 0, {"H": 1}),
    ("H2", "gas", 0, {"H": 2}),
    ("HE", "gas", 0, {"HE": 1}),
    ("HE+", "gas", 1, {"HE": 1}),
    ("HEH+", "gas", 1, {"HE": 1, "H": 1}),
    ("H3+", "gas", 1, {"H": 3}),
    ("H-", "gas", -1, {"H": 1}),
    ("C", "gas", 0, {"C": 1}),
    ("C++", "gas", 2, {"C": 1}),
    ("CO", "gas", 0, {"C": 1, "O": 1}),
    ("CL", "gas", 0, {"CL": 1}),
    ("CCL", "gas", 0, {"C": 1, "CL": 1}),
    ("HCL", "gas", 0, {"H": 1, "CL": 1}),
    ("H2CL+", "gas", 1, {"H": 2, "CL": 1}),
    ("CS", "gas", 0, {"C": 1, "S": 1}),
    ("OCS", "gas", 0, {"O": 1, "C": 1, "S": 1}),
    ("SI", "gas", 0, {"SI": 1}),
    ("SIC", "gas", 0, {"SI": 1, "C": 1}),
    ("HCSI", "gas", 0, {"H": 1, "C": 1, "SI": 1}),
    ("SISH+", "gas", 1, {"SI": 1, "S": 1, "H": 1}),
    ("MG+", "gas", 1, {"MG": 1}),
    ("NO", "gas", 0, {"N": 1, "O": 1}),
    ("HNO", "gas", 0, {"H": 1, "N": 1, "O": 1}),
    ("NH4+", "gas", 1, {"N": 1, "H": 4}),
    ("CH3OH", "gas", 0, {"C": 1, "H": 4, "O": 1}),
    ("HCOOCH3", "gas", 0, {"C": 2, "H": 4, "O": 2}),
    ("CH3CNH+", "gas", 1, {"C": 2, "H": 4, "N": 1}),
    ("NH2CHO", "gas", 0, {"N": 1, "H": 3, "C": 1, "O": 1}),
    ("C10H12", "gas", 0, {"C": 10, "H": 12}),
    ("#H2O", "surface", 0, {"H": 2, "O": 1}),
    ("@CH3CCH", "bulk", 0, {"C": 3, "H": 4}),
    ("$CO2", "ice", 0, {"C": 1, "O": 2}),
    ("E-", "gas", -1, {}),
    ("e-", "gas", -1, {}),
    ("E", "gas", -1, {}),
    ("GRAIN0", "gas", 0, {}),
    ("GRAIN-", "gas", -1, {}),
    ("grain", "gas", 0, {}),
    ("FEH", "gas", 0, {"FE": 1, "H": 1}),
    ("NACL", "gas", 0, {"NA": 1, "CL": 1}),
    ("PN", "gas", 0, {"P": 1, "N": 1}),
    ("HDO", "gas", 0, {"H": 1, "D": 1, "O": 1}),
    ("13CO", "gas", 0, {"13C": 1, "O": 1}),
    ("C13C", "gas", 0, {"C": 1, "13C": 1}),
    ("C213CH2", "gas", 0, {"C": 2, "13C": 1, "H": 2}),
    ("#C18O15N", "surface", 0, {"C": 1, "18O": 1, "15N": 1}),
]


@pytest.mark.parametrize(("name", "phase", "charge", "atoms"), TABLE, ids=[row[0] for row in TABLE])
def test_name_says_phase_charge_and_atoms(
    name: str, phase: str, charge: int, atoms: dict[str, int]
) -> None:
    species = parse_species(name, MORE)
    assert (species.name, species.phase, species.charge) == (name, phase, charge)
    assert species.composition == atoms
    assert charges([name]) == [charge]


@pytest.mark.parametrize(
    ("mixed", "upper"),
    [("He", "HE"), ("SiO", "SIO"), ("e-", "E-"), ("HCl+", "HCL+"), ("#CH3OH", "#CH3OH")],
)
def test_mixed_case_is_read_on_request(mixed: str, upper: str) -> None:
    assert parse_species(mixed, normalise_case=True) == parse_species(upper)


@pytest.mark.parametrize(
    "name",
    ["He", "Xe", "H2Q", "", "+", "#", "2H", "H0", "H02", "C O", "##CO", "CO+-", "CO+2", "l-C3H"],
)
def test_junk_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match="is no species of the elements H HE C"):
        parse_species(name)


@pytest.mark.parametrize("name", ["FE+", "HDO", "13CO", "NACL", "PN"])
def test_element_that_is_not_listed_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name.replace('+', '.')}' is no species"):
        parse_species(name)


TOKENS = st.lists(st.tuples(st.sampled_from(ELEMENTS), st.integers(1, 40)), min_size=1, max_size=6)


@given(TOKENS, st.sampled_from(["", "#", "@", "$"]), st.integers(-3, 3))
def test_written_formula_is_read_back(
    tokens: list[tuple[str, int]], prefix: str, charge: int
) -> None:
    body = "".join(symbol + ("" if count == 1 else str(count)) for symbol, count in tokens)
    signs = ("+" if charge > 0 else "-") * abs(charge)
    species = parse_species(prefix + body + signs)
    counted: Counter[str] = Counter()
    for symbol, count in tokens:
        counted[symbol] += count
    assert species.composition == counted
    assert species.charge == charge


@given(st.text(alphabet="HCNOSIEMGL0123456789+-#@$", max_size=12))
def test_any_text_is_read_whole_or_refused(text: str) -> None:
    try:
        species = parse_species(text)
    except ValueError as error:
        assert repr(text)[1:-1] in str(error)  # noqa: PT017 - most texts are refused
    else:
        assert all(count > 0 for count in species.composition.values())


def test_matrix_counts_atoms() -> None:
    matrix = stoichiometric_matrix(["CH3OH", "E-", "#SIO"], ["H", "O", "SI", "C"])
    assert matrix.tolist() == [[4, 1, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0]]


def test_elements_of_no_species_are_dropped_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="no species holds HE N S SI MG CL"):
        assert present_elements(["CO", "H2O"]) == ("H", "C", "O")


def test_all_present_elements_are_kept_silently() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert present_elements(["H", "CO"], ["H", "C", "O"]) == ("H", "C", "O")


def test_disagreeing_matrix_is_refused_with_the_species() -> None:
    names = ["H2O", "CO", "CO2"]
    matrix = stoichiometric_matrix(names)
    check_matrix(names, ELEMENTS, matrix)
    matrix[2, 0] = 1
    with pytest.raises(ValueError, match="disagrees with the names of CO2;"):
        check_matrix(names, ELEMENTS, matrix)
    with pytest.raises(ValueError, match="has the shape"):
        check_matrix(names, ELEMENTS, matrix[:2])


def test_default_list_has_three_phases_in_ascii_order() -> None:
    names = default_species()
    assert list(names) == sorted(names)
    phases = Counter(parse_species(name).phase for name in names)
    assert phases == {"surface": 83, "bulk": 83, "gas": 167}


@pytest.mark.parametrize(
    ("name", "canonical"),
    [("CH3OH", "CH4O"), ("#CH3OH", "#CH4O"), ("@HCOOH", "@H2CO2"), ("CO", "CO"), ("CH4O", "CH4O")],
)
def test_structural_names_become_formulas(name: str, canonical: str) -> None:
    assert canonical_name(name) == canonical


@pytest.mark.parametrize(("structural", "formula"), renames().items())
def test_both_spellings_have_the_same_atoms(structural: str, formula: str) -> None:
    one, other = parse_species(structural), parse_species(formula)
    assert (one.composition, one.charge) == (other.composition, other.charge)


def test_renaming_keeps_the_default_species_apart() -> None:
    back = {formula: structural for structural, formula in renames().items()}
    assert len(back) == len(renames())
    structural = [
        name[: len(name) - len(name.lstrip("#@"))] + back.get(name.lstrip("#@"), name.lstrip("#@"))
        for name in default_species()
    ]
    assert tuple(map(canonical_name, structural)) == default_species()
    assert len({canonical_name(name) for name in default_species()}) == 333


def test_initial_abundances_are_those_of_a_cloud_of_atoms() -> None:
    given = {  # the list of initial abundances in use since the original work
        "H": 0.5, "H2": 0.25, "HE": 0.1, "C+": 1.77e-4, "C": 1e-10, "N": 6.18e-5, "O": 3.34e-4,
        "S+": 3.51e-6, "SI+": 1.78e-6, "MG": 2.256e-6, "CL+": 3.39e-8, "E-": 1.823e-4,
        "CH3OH": 1e-30,
    }  # fmt: skip
    found = initial_abundances(list(given))
    np.testing.assert_allclose(found, list(given.values()), rtol=2e-4)
    names = default_species()
    assert abs(charges(names) @ initial_abundances(names)) < 1e-19


@needs_shared
def test_matrix_equals_the_supplied_one() -> None:
    supplied = np.load(ASTROCHEM / "stoichiometric_matrix.npy")
    assert np.array_equal(stoichiometric_matrix(default_species()), supplied)
    check_matrix(default_species(), ELEMENTS, supplied)
