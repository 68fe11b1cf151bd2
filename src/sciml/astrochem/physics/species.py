"""Names of species: phase, charge, atoms, and the two spellings in use.

Sizes: S species, E elements.
"""

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sciml.astrochem.physics.constants import FLOOR

Phase = Literal["gas", "surface", "bulk", "ice"]

ELEMENTS = ("H", "HE", "C", "N", "O", "S", "SI", "MG", "CL")
"""Elements in the order of every stoichiometric matrix."""
PHASES: dict[str, Phase] = {"#": "surface", "@": "bulk", "$": "ice"}
ELECTRON = frozenset({"E-", "e-", "E"})
AGGREGATES = frozenset({"SURFACE", "BULK"})  # sums over a phase, no species
KNOWN = ("HE", "SI", "MG", "CL", "NA", "LI", "FE")  # two letters that are never two elements
GRAIN = re.compile(r"(?i:grain)0?")
CHARGE = re.compile(r"(\++|-+)$")


@dataclass(frozen=True)
class Species:
    """A chemical species.

    Args:
        name: As it was given, after normalisation of its case.
        phase: Where it is; `ice` is the sum of surface and bulk.
        charge: In units of the elementary charge.
        composition: Atoms by element.
    """

    name: str
    phase: Phase
    charge: int
    composition: dict[str, int] = field(hash=False)


def parse_species(
    name: str, elements: Sequence[str] = ELEMENTS, *, normalise_case: bool = False
) -> Species:
    """What a name says: ``[#@$] (symbol [count])* (+|-)*``, repeated symbols added up.

    Symbols are read from left to right, the longest first, so that ``CL`` is chlorine and ``CO``
    carbon and oxygen. Isotopes such as ``13C`` and ``D`` are elements of their own when listed.

    Args:
        name: Such as ``#CH3OH``, ``HCO+``, ``E-`` or ``GRAIN-``.
        elements: Symbols that may occur.
        normalise_case: Read mixed case such as ``He`` as upper case.

    Raises:
        ValueError: If a part of the name is no listed element; names the species.
    """
    if normalise_case:
        name = name.upper()
    phase = phase_of(name)
    body = name[1:] if name[:1] in PHASES else name
    if body in ELECTRON:
        return Species(name, phase, -1, {})
    charge = _charge(body)
    body = CHARGE.sub("", body)
    if GRAIN.fullmatch(body):
        return Species(name, phase, charge, {})
    pattern, counted = _patterns(tuple(elements))
    composition: dict[str, int] = {}
    place = 0
    while place < len(body):
        symbol = pattern.match(body, place)
        if symbol is None or symbol[0] not in elements:
            break
        number = counted.match(body, symbol.end())
        if number is None:
            break
        composition[symbol[0]] = composition.get(symbol[0], 0) + int(number[0] or 1)
        place = number.end()
    if place < len(body) or not composition:
        raise ValueError(
            f"'{name}' is no species of the elements {' '.join(elements)}: "
            f"'{body[place:]}' is not understood; correct the name or list its elements"
        )
    return Species(name, phase, charge, composition)


def phase_of(name: str) -> Phase:
    """Phase of a species by its prefix; the rest of the name is not looked at.

    Args:
        name: Such as ``@H2O``.
    """
    return PHASES.get(name[:1], "gas")


def stoichiometric_matrix(
    names: Sequence[str], elements: Sequence[str] = ELEMENTS
) -> NDArray[np.float64]:
    """Atoms of every element in every species; abundances times this are element totals.

    Args:
        names: Species, S of them.
        elements: Columns, E of them.

    Returns:
        ``(S, E)``.

    Raises:
        ValueError: If a name does not parse.
    """
    matrix = np.zeros((len(names), len(elements)))
    for row, name in enumerate(names):
        for element, count in parse_species(name, elements).composition.items():
            matrix[row, tuple(elements).index(element)] = count
    return matrix


def charges(names: Iterable[str]) -> NDArray[np.float64]:
    """Charge of every species in elementary charges, ``(S,)``.

    Args:
        names: Species; their atoms are not looked at.
    """
    bodies = [name.lstrip("#@$") for name in names]
    return np.array([-1.0 if body in ELECTRON else _charge(body) for body in bodies])


def present_elements(names: Sequence[str], elements: Sequence[str] = ELEMENTS) -> tuple[str, ...]:
    """The elements that occur in some species, in order; warns about the others.

    Args:
        names: Species.
        elements: Candidates.
    """
    counts = stoichiometric_matrix(names, elements).sum(0)
    absent = [element for element, count in zip(elements, counts, strict=True) if not count]
    if absent:
        warnings.warn(f"no species holds {' '.join(absent)}; its total is left out", stacklevel=2)
    return tuple(element for element in elements if element not in absent)


def check_matrix(
    names: Sequence[str], elements: Sequence[str], supplied: NDArray[np.float64]
) -> None:
    """Compare a stored stoichiometric matrix with the one of the names.

    Args:
        names: Species.
        elements: Columns.
        supplied: ``(S, E)``.

    Raises:
        ValueError: If they differ; lists the species.
    """
    own = stoichiometric_matrix(names, elements)
    if supplied.shape != own.shape:
        raise ValueError(
            f"the stored stoichiometric matrix has the shape {supplied.shape}, the species and "
            f"elements ask for {own.shape}; leave it out or correct it"
        )
    wrong = [name for name, same in zip(names, (own == supplied).all(1), strict=True) if not same]
    if wrong:
        more = f" and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise ValueError(
            f"the stored stoichiometric matrix disagrees with the names of "
            f"{', '.join(wrong[:10])}{more}; leave it out or correct it"
        )


@cache
def renames() -> dict[str, str]:
    """Structural names as UCLCHEM writes them, and their canonical formulas, without prefixes."""
    lines = _asset("species_rename.csv").decode().split()[1:]
    return dict(line.split(",") for line in lines)  # type: ignore[misc]


def canonical_name(name: str) -> str:
    """The canonical spelling of a species: ``#CH3OH`` is ``#CH4O``.

    Args:
        name: Either spelling, with or without prefix.
    """
    body = name.lstrip("#@$")
    return name[: len(name) - len(body)] + renames().get(body, body)


@cache
def default_species() -> tuple[str, ...]:
    """The 333 species of the three-phase network in canonical spelling, sorted by ASCII."""
    return tuple(_asset("species.txt").decode().split())


def initial_abundances(names: Sequence[str]) -> NDArray[np.float64]:
    """Abundances per H nucleus of a cloud of atoms, ions and H2, ``(S,)``, else `FLOOR`.

    Args:
        names: Species in either spelling.
    """
    table = _initial()
    return np.array([table.get(canonical_name(name), FLOOR) for name in names])


@cache
def _initial() -> dict[str, float]:
    with (files("sciml.astrochem") / "assets" / "initial_abundances.npy").open("rb") as file:
        values = np.load(file)[0]
    return dict(zip(default_species(), values.tolist(), strict=True))


def _asset(name: str) -> bytes:
    return (files("sciml.astrochem") / "assets" / name).read_bytes()


def _charge(body: str) -> int:
    signs = CHARGE.search(body)
    return 0 if signs is None else len(signs[0]) * (1 if signs[0][0] == "+" else -1)


@cache
def _patterns(elements: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    symbols = sorted({*elements, *KNOWN}, key=lambda symbol: (-len(symbol), symbol))
    symbol = "|".join(map(re.escape, symbols))
    # lazy, so that C13C is C and 13C rather than 13 C and another one
    return re.compile(symbol), re.compile(rf"(?:[1-9]\d*?)??(?={symbol}|$|[^\d])")
