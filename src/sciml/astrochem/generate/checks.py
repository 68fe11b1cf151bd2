"""What a network must obey before it is integrated."""

from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from sciml.astrochem.generate.network import SPECIES_NUMBERS, Indices, Network, SpeciesTable

# type: phases of the first and the second reactant, - for none; g gas, s surface, b bulk, e the
# electron, * anything
PATTERNS = {
    "TWOBODY": ("gg", "ge", "eg"),
    "CRP": ("*-",),
    "CRPHOT": ("*-",),
    "PHOTON": ("*-",),
    "H2FORM": ("gg",),
    "FREEZE": ("g-",),
    "IONGRAIN": ("ge",),
    "THERM": ("s-",),
    "DESCR": ("s-",),
    "DEUVCR": ("s-",),
    "LH": ("ss", "bb"),
    "ER": ("gs", "sg"),
    "SURFSWAP": ("s-",),
    "BULKSWAP": ("b-",),
}
BOUND = ("THERM", "LH", "BULKSWAP")  # need the binding energies of their reactants
WEIGHED = (*BOUND, "FREEZE", "IONGRAIN", "ER")  # and their masses; that of the electron counts not
_SYMBOLS = {"#": "s", "@": "b", "": "-"}


def check_network(network: Network) -> None:
    """Check types, reactants, ice layers and conservation of elements and charge.

    Args:
        network: The network.

    Raises:
        ValueError: Naming the first reaction or species that is wrong.
    """
    _check_types(network)
    _check_species(network.species)
    _check_reactants(network)
    _check_temperatures(network)
    _check_conservation(network)
    _check_layers(network)


def _check_types(network: Network) -> None:
    unknown = np.flatnonzero(~np.isin(network.kind, list(PATTERNS)))
    if not unknown.size:
        return
    kind = str(network.kind[unknown[0]])
    near = get_close_matches(kind.upper(), PATTERNS, 1)
    hint = f"did you mean {near[0]}" if near else f"known are {', '.join(PATTERNS)}"
    raise ValueError(
        f"unknown type '{kind}' of the reaction {network.describe(unknown[0])}; {hint}"
    )


def _check_species(species: SpeciesTable) -> None:
    """Every number of the table is finite."""
    columns = [species.mass, species.charge, species.binding_energy, species.composition]
    table = np.column_stack(columns)
    wrong = np.argwhere(~np.isfinite(table))
    if wrong.size:
        place, column = wrong[0]
        name = [*SPECIES_NUMBERS, *species.elements][column]
        raise ValueError(
            f"species '{species.names[place]}' has the {name} {table[place, column]}; give a "
            "finite number"
        )


def _check_reactants(network: Network) -> None:
    symbols = _phases(network)[network.reactants]
    for reaction, kind in enumerate(network.kind):
        found = "".join(symbols[reaction])
        allowed = PATTERNS[kind]
        if not any(_fits(found, pattern) for pattern in allowed):
            words = {"g": "gas", "s": "#X", "b": "@X", "e": "E-", "-": "nothing", "*": "a species"}
            wanted = " or ".join(" and ".join(words[c] for c in one) for one in allowed)
            raise ValueError(
                f"{network.describe(reaction)} has the wrong reactants;"
                f" {kind} takes {wanted} in r1 and r2"
            )
    energy = np.append(network.species.binding_energy, np.inf)[network.reactants].min(1)
    loose = network.of(*BOUND)[energy[network.of(*BOUND)] <= 0]
    if loose.size:
        raise ValueError(
            f"{network.describe(loose[0])} needs a positive binding_energy_K of its reactants;"
            " give it in the table of species"
        )
    mass = [
        np.inf if name == "E-" else mass
        for name, mass in zip(network.species.names, network.species.mass, strict=True)
    ]
    least = np.append(mass, np.inf)[network.reactants].min(1)
    light = network.of(*WEIGHED)[least[network.of(*WEIGHED)] <= 0]
    if light.size:
        raise ValueError(
            f"{network.describe(light[0])} needs a positive mass_amu of its reactants; give it in"
            " the table of species"
        )


def _check_temperatures(network: Network) -> None:
    """Every number is finite, and no range of temperatures is the wrong way round."""
    low, high = network.numbers[:, 3], network.numbers[:, 4]
    wrong = np.flatnonzero(~np.isfinite(network.numbers).all(1) | (low > high) | (low < 0))
    if wrong.size:
        raise ValueError(
            f"{network.describe(wrong[0])} has a number that is not finite, or tmin and tmax"
            " the wrong way round; correct the row"
        )
    cold = network.of("TWOBODY")[high[network.of("TWOBODY")] == 0]
    if cold.size:
        raise ValueError(
            f"{network.describe(cold[0])} has the tmax 0, but its coefficient is taken between tmin"
            " and tmax; give a temperature above 0 K"
        )


def _check_conservation(network: Network) -> None:
    species = network.species
    counted = np.column_stack([species.composition, species.charge])
    counted = np.vstack([counted, np.zeros(counted.shape[1])])  # of an empty place
    surplus = counted[network.products].sum(1) - counted[network.reactants].sum(1)
    wrong = np.argwhere(np.abs(surplus) > 1e-9)
    if wrong.size:
        reaction, column = wrong[0]
        what = [*species.elements, "charge"][column]
        raise ValueError(
            f"{network.describe(reaction)} does not conserve {what}; correct its products or the"
            " table of species"
        )


def _check_layers(network: Network) -> None:
    """In a network with a bulk every surface species has its partner there, and the reverse."""
    names = network.species.names
    surface = {name[1:] for name in names if name.startswith("#")}
    bulk = {name[1:] for name in names if name.startswith("@")}
    lonely = sorted(surface ^ bulk) if bulk else []
    if lonely:
        there, absent = ("#", "@") if lonely[0] in surface else ("@", "#")
        raise ValueError(
            f"{there}{lonely[0]} has no partner {absent}{lonely[0]}, but the ice has a surface and"
            " a bulk; add it to the table of species"
        )
    for reaction in network.of("SURFSWAP", "BULKSWAP"):
        left = names[network.reactants[reaction, 0]]
        made: Indices = network.products[reaction]
        right = [names[place] for place in made if place < len(names)]
        if right != [("@" if left[0] == "#" else "#") + left[1:]]:
            raise ValueError(
                f"{network.describe(reaction)} exchanges different molecules; a swap moves one"
                " species between #X and @X"
            )


def _phases(network: Network) -> NDArray[np.str_]:
    names = [*network.species.names, ""]
    return np.array(
        ["e" if name == "E-" else _SYMBOLS.get(name[:1], "g") for name in names], dtype=np.str_
    )


def _fits(found: str, pattern: str) -> bool:
    pairs = zip(found, pattern, strict=True)
    return all(want in {have, "*"} and have + want != "-*" for have, want in pairs)
