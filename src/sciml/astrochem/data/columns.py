"""What the columns of a file mean: the spellings in use, and what is no species."""

from collections.abc import Sequence
from dataclasses import dataclass

from sciml.astrochem.physics.constants import PHYSICS
from sciml.astrochem.physics.species import AGGREGATES, canonical_name, parse_species

SPELLINGS = {  # without underscores, in lower case
    "time": "Time",
    "timeyears": "Time",
    "timeyr": "Time",
    "density": "Density",
    "radfield": "Radfield",
    "av": "Av",
    "gastemp": "gasTemp",
    "temperature": "gasTemp",
    "model": "Tracer",
    "tracer": "Tracer",
    "tracerid": "Tracer",
}
IGNORED = frozenset({"index", "dusttemp", "dstep", "zeta", "point", "parcel"})
SHOWN = 10  # names in a sentence


@dataclass(frozen=True)
class Columns:
    """Places of the columns that are used.

    Args:
        time: Place of the time.
        physics: Places of the conditions, in the order of `PHYSICS`.
        tracer: Place of the tracer's number, None if it is no column.
        species: Names in the order of tables, sorted by ASCII.
        places: Place of every species.
        originals: Species as the file spells them.
    """

    time: int
    physics: tuple[int, ...]
    tracer: int | None
    species: tuple[str, ...]
    places: tuple[int, ...]
    originals: tuple[str, ...]

    @property
    def in_file_order(self) -> tuple[str, ...]:
        """Species as the file orders and spells them."""
        return tuple(name for _, name in sorted(zip(self.places, self.originals, strict=True)))


def find_columns(
    labels: Sequence[str],
    where: str,
    elements: Sequence[str],
    *,
    rename: bool = True,
    normalise_case: bool = False,
) -> Columns:
    """Tell time, conditions, tracer and species of a file apart; sums over a phase are left out.

    Args:
        labels: Names of the columns.
        where: File and group, for errors.
        elements: What species may be made of.
        rename: Bring structural names of species to canonical ones.
        normalise_case: Read species in mixed case.

    Raises:
        ValueError: If a column is missing, unknown or there twice.
    """
    words = [label.replace("_", "").lower() for label in labels]
    known = _known(labels, words, where)
    left = [
        (place, label)
        for place, (label, word) in enumerate(zip(labels, words, strict=True))
        if not (word in SPELLINGS or word in IGNORED or label in AGGREGATES or label[:1] == "$")
    ]
    species = _species(left, where, elements, rename=rename, normalise_case=normalise_case)
    missing = [name for name in ("Time", *PHYSICS) if name not in known]
    if missing or not species:
        raise ValueError(
            f"{where} has no column {', '.join(missing) or 'of a species'}; "
            f"it has {shorten(list(labels))}"
        )
    order = sorted(species)
    return Columns(
        time=known["Time"],
        physics=tuple(known[name] for name in PHYSICS),
        tracer=known.get("Tracer"),
        species=tuple(order),
        places=tuple(species[name][0] for name in order),
        originals=tuple(species[name][1] for name in order),
    )


def _known(labels: Sequence[str], words: Sequence[str], where: str) -> dict[str, int]:
    """Places of time, conditions and tracer."""
    known: dict[str, int] = {}
    for place, word in enumerate(words):
        name = SPELLINGS.get(word)
        if name is None:
            continue
        if name in known:
            raise ValueError(
                f"{where} has the column {name} twice, as {labels[known[name]]} and "
                f"{labels[place]}; remove one of them"
            )
        known[name] = place
    return known


def _species(
    labels: Sequence[tuple[int, str]],
    where: str,
    elements: Sequence[str],
    *,
    rename: bool,
    normalise_case: bool,
) -> dict[str, tuple[int, str]]:
    """Place and spelling of every species, by name."""
    species: dict[str, tuple[int, str]] = {}
    unknown: list[str] = []
    for place, label in labels:
        try:
            name = parse_species(label, elements, normalise_case=normalise_case).name
        except ValueError:
            unknown.append(label)
            continue
        name = canonical_name(name) if rename else name
        if name in species:
            raise ValueError(
                f"{where} has the species {name} twice, as {species[name][1]} and {label}; "
                "remove one of the columns"
            )
        species[name] = (place, label)
    if unknown:
        raise ValueError(
            f"{where} has columns that are neither conditions nor species of the elements "
            f"{' '.join(elements)}: {shorten(unknown)}; rename or remove them, or list their "
            "elements with --data.reading.elements (of verbs --reading.elements)"
        )
    return species


def shorten(names: Sequence[str]) -> str:
    """The first names of a list, as they stand in a sentence."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
