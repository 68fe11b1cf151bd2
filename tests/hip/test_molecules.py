from pathlib import Path

import numpy as np
import pytest

from sciml.hip.generate.molecules import (
    built_in,
    elements,
    embed,
    read_geometries,
    read_smiles,
)

pytest.importorskip("rdkit")


def test_the_built_in_molecules_are_what_is_promised() -> None:
    from rdkit import Chem

    molecules = built_in()
    heavy = [int((molecule.numbers > 1).sum()) for molecule in molecules]
    assert len({Chem.CanonSmiles(molecule.name) for molecule in molecules}) == len(molecules) >= 100
    assert heavy == sorted(heavy)
    assert (heavy[0], heavy[-1]) == (3, 9)
    assert elements(molecules) == [1, 6, 7, 8]
    assert not any(molecule.numbers.sum() % 2 for molecule in molecules)


def test_embedding_depends_on_the_seed_alone() -> None:
    first, again, other = (embed("CCCO", seed, 2) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_file_of_smiles_is_read_by_line(tmp_path: Path) -> None:
    path = tmp_path / "list.smi"
    path.write_text("# a comment\nCCO ethanol\n\nC#N\n")
    assert [molecule.name for molecule in read_smiles(path)] == ["CCO", "C#N"]
    assert read_smiles(path)[1].numbers.tolist() == [6, 7, 1]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("C1CC", "'C1CC' is not a valid SMILES"),
        ("CC[NH3+]", r"has the charge \+1"),
        ("CC.O", "more than one molecule"),
        ("[He]", "is an atom"),
    ],
)
def test_a_line_that_is_no_molecule_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "list.smi"
    path.write_text(f"CCO\n{line}\n")
    with pytest.raises(ValueError, match=rf"list.smi, line 2: .*{words}"):
        read_smiles(path)


def test_geometries_are_read_by_frame(tmp_path: Path) -> None:
    path = tmp_path / "two.xyz"
    path.write_text("2\n\nH 0 0 0\nH 0 0 0.8\n3\n\nO 0 0 0\nH 0 0.7 0.5\nH 0 -0.7 0.5\n")
    first, second = read_geometries(path)
    assert (first.name, second.name) == ("H2", "H2O")
    assert second.numbers.tolist() == [8, 1, 1]
    assert np.array_equal(first.positions, [[0, 0, 0], [0, 0, 0.8]])
    for text, words in (
        ("1\n\nH 0 0 0\n", "frame 0 .*is an atom"),
        ("nonsense\n", "cannot be read"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            read_geometries(path)
