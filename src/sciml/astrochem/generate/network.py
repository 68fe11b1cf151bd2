"""Chemical networks: their species and reactions, read from two tables.

Letters: S species, E elements, R reactions.
"""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

REACTANTS = ("r1", "r2")
PRODUCTS = ("p1", "p2", "p3", "p4")
NUMBERS = ("alpha", "beta", "gamma", "tmin", "tmax")
SPECIES_NUMBERS = ("mass_amu", "charge", "binding_energy_K")
SPECIES_COLUMNS = ("name", "phase", *SPECIES_NUMBERS)
ICES = {"ice": "#", "surface": "#", "bulk": "@"}  # phase: prefix of its species
PHASES = ("gas", *ICES)


@dataclass(frozen=True, slots=True)
class SpeciesTable:
    """The species of a network.

    Args:
        names: Their names; ``#X`` is on the ice's surface (or anywhere in the ice, in a network of
            two phases), ``@X`` in its bulk.
        mass: Mass in amu, shape ``(S,)``.
        charge: Charge in elementary charges, shape ``(S,)``.
        binding_energy: Binding energy to the ice in K, shape ``(S,)``; 0 in the gas.
        elements: Names of the elements.
        composition: Atoms of each element in each species, shape ``(S, E)``.
    """

    names: tuple[str, ...]
    mass: Floats
    charge: Floats
    binding_energy: Floats
    elements: tuple[str, ...]
    composition: Floats

    def __len__(self) -> int:
        return len(self.names)

    def places(self, prefix: str) -> Indices:
        """Indices of the species whose name begins with a prefix."""
        return np.flatnonzero([name.startswith(prefix) for name in self.names])

    def place(self, name: str) -> int:
        """Index of a species, S if the network does not have it."""
        return self.names.index(name) if name in self.names else len(self)


@dataclass(frozen=True, slots=True)
class Network:
    """Species and reactions.

    Args:
        species: The species.
        kind: Type of each reaction, shape ``(R,)``.
        row: Line of each reaction in its file, shape ``(R,)``.
        reactants: Species consumed, shape ``(R, 2)``; S where there is none.
        products: Species made, shape ``(R, 4)``; S where there is none.
        numbers: Columns alpha, beta, gamma, tmin (K), tmax (K), shape ``(R, 5)``.
        sha256: Digest of both files.
    """

    species: SpeciesTable
    kind: NDArray[np.str_]
    row: Indices
    reactants: Indices
    products: Indices
    numbers: Floats
    sha256: str

    def __len__(self) -> int:
        return len(self.kind)

    def of(self, *kinds: str) -> Indices:
        """Indices of the reactions of some types."""
        return np.flatnonzero(np.isin(self.kind, kinds))

    def describe(self, reaction: int) -> str:
        """A reaction as a reader of its file finds it: type, formula and row."""
        names = [*self.species.names, ""]
        left = " + ".join(names[i] for i in self.reactants[reaction] if names[i])
        right = " + ".join(names[i] for i in self.products[reaction] if names[i])
        return f"{self.kind[reaction]} {left} -> {right} in row {self.row[reaction]}"


def read_network(network: Path | None = None, species: Path | None = None) -> Network:
    """Read a network, by default the embedded one.

    Whether it makes sense is checked by `sciml.astrochem.generate.checks.check_network`.

    Args:
        network: Table of reactions, csv with the columns ``type, r1, r2, p1 .. p4, alpha, beta,
            gamma, tmin, tmax``.
        species: Table of species, csv with the columns ``name, mass_amu, charge, phase,
            binding_energy_K`` and one for each element.

    Returns:
        The network.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If only one file is given, or a table cannot be read.
    """
    if (network is None) != (species is None):
        raise ValueError("a network is two tables; give both --network and --network_species")
    reactions_file = asset("network.csv") if network is None else _existing(network)
    species_file = asset("network_species.csv") if species is None else _existing(species)
    table = _species(species_file)
    rows = _rows(reactions_file, ("type", *REACTANTS, *PRODUCTS, *NUMBERS))
    places = {name: place for place, name in enumerate(table.names)} | {"": len(table)}
    digest = hashlib.sha256(reactions_file.read_bytes() + species_file.read_bytes())
    return Network(
        table,
        np.array([row["type"] for row in rows]),
        np.arange(len(rows)) + 2,  # the heading is row 1
        _places(rows, REACTANTS, places, reactions_file),
        _places(rows, PRODUCTS, places, reactions_file),
        _floats(rows, NUMBERS, reactions_file),
        digest.hexdigest(),
    )


def asset(name: str) -> Traversable:
    """A file that comes with the package."""
    return files("sciml.astrochem").joinpath("assets", name)


def _species(file: Traversable) -> SpeciesTable:
    rows = _rows(file, SPECIES_COLUMNS)
    names = tuple(row["name"] for row in rows)
    for number, row in enumerate(rows, start=2):
        where = f"species '{row['name']}' in row {number} of {file}"
        if row["name"] in names[: number - 2]:
            raise ValueError(f"{where} is there twice; keep one of the rows")
        prefix = ICES.get(row["phase"], "")
        if row["phase"] not in PHASES or (row["name"][:1] if row["name"][:1] in "#@" else "") != (
            prefix
        ):
            raise ValueError(
                f"{where} has phase '{row['phase']}'; #X is ice or surface, @X is bulk, others gas"
            )
    elements = tuple(name for name in rows[0] if name not in SPECIES_COLUMNS)
    mass, charge, binding = _floats(rows, SPECIES_NUMBERS, file).T
    return SpeciesTable(names, mass, charge, binding, elements, _floats(rows, elements, file))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check --network and --network_species")
    return path


def _rows(file: Traversable, wanted: Sequence[str]) -> list[dict[str, str]]:
    reader = csv.DictReader(file.read_text(encoding="utf-8").splitlines(), restval="")
    missing = [name for name in wanted if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{file} has no column {missing[0]}; it needs {', '.join(wanted)}")
    rows = [{name: (text or "").strip() for name, text in row.items() if name} for row in reader]
    if not rows:
        raise ValueError(f"{file} has no rows; give a table with at least one")
    return rows


def _floats(rows: list[dict[str, str]], names: Sequence[str], file: Traversable) -> Floats:
    values = np.empty((len(rows), len(names)))
    for number, row in enumerate(rows):
        for column, name in enumerate(names):
            try:
                values[number, column] = float(row[name])
            except ValueError:
                raise ValueError(
                    f"column {name} of row {number + 2} of {file} holds '{row[name]}';"
                    " write a number"
                ) from None
    return values


def _places(
    rows: list[dict[str, str]], names: Sequence[str], places: dict[str, int], file: Traversable
) -> Indices:
    for number, row in enumerate(rows, start=2):
        unknown = [row[name] for name in names if row[name] not in places]
        if unknown:
            raise ValueError(
                f"row {number} of {file} names {unknown[0]}, which is not among the species;"
                " add it to the table of species"
            )
    return np.array([[places[row[name]] for name in names] for row in rows], dtype=np.int64)
