import hashlib
from collections import Counter
from pathlib import Path

import networks
import numpy as np
import pytest
import slow_network
from shared import ASTROCHEM, needs_shared

from sciml.astrochem.generate.checks import PATTERNS, check_network
from sciml.astrochem.generate.network import read_network
from sciml.astrochem.physics.species import ELEMENTS, charges, parse_species, stoichiometric_matrix


def test_the_embedded_network_has_the_stated_size() -> None:
    network = read_network()
    phases = Counter("ice" if name[0] == "#" else "gas" for name in network.species.names)
    assert (len(network), phases) == (1838, {"gas": 98, "ice": 43})
    assert (network.species.charge > 0).sum() == 52
    check_network(network)


def test_composition_and_charge_of_the_table_are_those_of_the_names() -> None:
    species = read_network().species
    assert species.elements == ELEMENTS
    np.testing.assert_array_equal(species.composition, stoichiometric_matrix(species.names))
    np.testing.assert_array_equal(species.charge, charges(species.names))


def test_every_reaction_conserves_elements_and_charge() -> None:
    for row in slow_network.REACTIONS:
        balance: Counter[str] = Counter()
        for column, sign in (("r1", -1), ("r2", -1), ("p1", 1), ("p2", 1), ("p3", 1), ("p4", 1)):
            if row[column]:
                species = parse_species(row[column])
                balance["charge"] += sign * species.charge
                for element, count in species.composition.items():
                    balance[element] += sign * count
        assert not any(balance.values()), row


@needs_shared
@pytest.mark.parametrize(
    "name",
    [
        "network.csv",
        "network_species.csv",
        "co_shielding.csv",
        "species.txt",
        "initial_abundances.npy",
        "species_rename.csv",
    ],
)
def test_the_package_carries_the_given_files_unchanged(name: str) -> None:
    own, given = (folder / name for folder in (slow_network.ASSETS, ASTROCHEM))
    assert own.read_bytes() == given.read_bytes()


def test_a_network_of_ones_own_is_read(tmp_path: Path) -> None:
    network = networks.make_network(tmp_path, "TWOBODY,O,H2,OH,H,,,3e-11,0.5,100,10,5000\n")
    assert network.species.names == ("H", "H2", "O", "OH", "O+", "E-")
    assert network.species.elements == ("H", "O")
    assert network.describe(0) == "TWOBODY O + H2 -> OH + H in row 2"
    np.testing.assert_array_equal(network.numbers, [[3e-11, 0.5, 100, 10, 5000]])
    both = b"".join((tmp_path / name).read_bytes() for name in ("net.csv", "species.csv"))
    assert network.sha256 == hashlib.sha256(both).hexdigest()


def test_every_type_of_a_three_phase_network_is_known(tmp_path: Path) -> None:
    network = networks.make_network(
        tmp_path, networks.THREE_PHASES, networks.SPECIES + networks.ICE
    )
    assert {"ER", "SURFSWAP", "BULKSWAP"} <= set(network.kind) <= set(PATTERNS)


@pytest.mark.parametrize(
    ("reaction", "words"),
    [
        ("TWOBODDY,O,H2,OH,H", "unknown type 'TWOBODDY' of the reaction .* in row 2; did you mean"),
        ("XYZ,O,H2,OH,H", "unknown type 'XYZ' .* in row 2; known are TWOBODY"),
        ("TWOBODY,O,H2,OH", "O \\+ H2 -> OH in row 2 does not conserve H; correct"),
        ("TWOBODY,O+,H2,OH,H", "does not conserve charge"),
        ("TWOBODY,O,,O", "has the wrong reactants; TWOBODY takes gas and gas or gas and E-"),
        ("CRP,O,H2,OH,H", "has the wrong reactants; CRP takes a species and nothing"),
        ("FREEZE,#O,,O", "FREEZE takes gas and nothing"),
        ("ER,H,O,OH", "ER takes gas and #X or #X and gas"),
        ("SURFSWAP,#O,,@OH", "does not conserve H"),
        ("SURFSWAP,#O,,O", "exchanges different molecules"),
        ("TWOBODY,O,N,OH,H", "row 2 of .*net.csv names N, which is not among the species"),
    ],
)
def test_a_wrong_reaction_is_one_sentence(tmp_path: Path, reaction: str, words: str) -> None:
    row = reaction + "," * (6 - reaction.count(",")) + ",1,0,0,10,1000\n"
    with pytest.raises(ValueError, match=words) as caught:
        networks.make_network(tmp_path, row, networks.SPECIES + networks.ICE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ("x,0,0,10,20", "column alpha of row 2 of .*net.csv holds 'x'; write a number"),
        ("nan,0,0,10,20", "row 2 has a number that is not finite"),
        ("1,0,0,30,20", "tmin and tmax the wrong way round"),
        ("1,0,0,0,0", "TWOBODY O . H2 -> OH . H in row 2 has the tmax 0"),
    ],
)
def test_a_wrong_number_is_one_sentence(tmp_path: Path, numbers: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        networks.make_network(tmp_path, f"TWOBODY,O,H2,OH,H,,,{numbers}\n")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("H2,2,0,gas,0", "H,2,0,gas,0", "species 'H' in row 3 of .* is there twice"),
        ("H2,2,0,gas,0", "H2,2,0,ice,0", "'H2' in row 3 of .* has phase 'ice'; #X is ice"),
        ("mass_amu", "mass", "has no column mass_amu; it needs name, phase, mass_amu"),
        ("@OH,17,0,bulk,4600,1,1\n", "", "#OH has no partner @OH"),
        ("#O,16,0,surface,1600", "#O,16,0,surface,0", "needs a positive binding_energy_K"),
        ("H2,2,0,gas", "H2,nan,0,gas", "species 'H2' has the mass_amu nan; give a finite number"),
        ("H2,2,0,gas", "H2,2,nan,gas", "species 'H2' has the charge nan"),
        ("#H,1,0,surface,600", "#H,1,0,surface,inf", "species '#H' has the binding_energy_K inf"),
        ("OH,17,0,gas,0,1,1", "OH,17,0,gas,0,nan,1", "species 'OH' has the H nan"),
        ("#O,16,0,surface", "#O,0,0,surface", "LH #H . #O -> #OH in row 2 needs a positive mass"),
        ("#O,16,0,surface", "#O,-1,0,surface", "needs a positive mass_amu of its reactants"),
    ],
)
def test_a_wrong_table_of_species_is_one_sentence(
    tmp_path: Path, before: str, after: str, words: str
) -> None:
    species = (networks.SPECIES + networks.ICE).replace(before, after)
    with pytest.raises(ValueError, match=words):
        networks.make_network(tmp_path, "LH,#H,#O,#OH,,,,1,0,0,0,1000\n", species)


def test_both_tables_are_needed(tmp_path: Path) -> None:
    network, species = networks.write_tables(tmp_path, "")
    with pytest.raises(ValueError, match="give both --network and --network_species"):
        read_network(network)
    with pytest.raises(ValueError, match=r"net.csv has no rows"):
        read_network(network, species)
    with pytest.raises(FileNotFoundError, match=r"no file none.csv; check --network"):
        read_network(Path("none.csv"), species)
