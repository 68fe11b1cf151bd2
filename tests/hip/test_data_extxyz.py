import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from hessian_files import as_atoms, assert_same, spring_record, write_extxyz

from sciml.hip.data.extxyz import ExtxyzSource
from sciml.hip.data.files import open_source
from sciml.hip.data.labels import Labels
from sciml.hip.data.record import Record

DECIMALS = 1e-8  # ASE writes eight


def test_frames_come_back(extxyz_file: Path, records: list[Record]) -> None:
    source = open_source(extxyz_file)
    assert isinstance(source, ExtxyzSource)
    assert len(source) == 12
    assert source.sizes().tolist() == [len(record.numbers) for record in records]
    for index in (5, 0, 11, 3):  # any order
        assert_same(source[index], records[index], atol=DECIMALS)
        assert source[index].identifier == index


@pytest.mark.parametrize("size", [1, 2, 4])
def test_flat_hessian_in_the_comment_line(tmp_path: Path, size: int) -> None:
    record = spring_record((8,) * size, 3)
    path = tmp_path / "x.xyz"
    write(path, as_atoms(record, flat=True), format="extxyz")
    assert_same(open_source(path)[0], record, atol=DECIMALS)


def test_labels_of_a_calculator(tmp_path: Path) -> None:
    record = spring_record((8, 1, 1), 3)
    atoms = Atoms(record.numbers, record.positions)
    atoms.calc = SinglePointCalculator(atoms, energy=record.energy, forces=record.forces)
    path = tmp_path / "x.xyz"
    write(path, atoms, format="extxyz")  # plain names: energy, forces
    read = open_source(path)[0]
    assert read.energy == pytest.approx(record.energy, abs=1e-7)
    np.testing.assert_allclose(read.forces, record.forces, atol=DECIMALS)
    assert read.hessian is None
    assert read.hessian_weight == 0


def test_plain_names_come_before_ref_names(tmp_path: Path) -> None:
    atoms = as_atoms(spring_record((8, 1, 1), 3))
    atoms.info["energy"] = -5.0
    write(tmp_path / "x.xyz", atoms, format="extxyz")
    assert open_source(tmp_path / "x.xyz")[0].energy == -5.0


def test_frame_written_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "x.xyz"
    path.write_text(
        "2\nProperties=species:S:1:pos:R:3:f:R:3 E=-1.5 config_type=pair rxn=7 "
        "config_weight=2 config_forces_weight=0.5\nH 0 0 0 0.1 0 0\nH 0.7 0 0 -0.1 0 0\n\n"
        "1\n\nHe 0 0 0\n"
    )
    labels = Labels(energy_key="E", forces_key="f")
    record = open_source(path, labels)[0]
    assert (record.energy, record.config_type, record.reaction) == (-1.5, "pair", 7)
    assert (record.weight, record.forces_weight) == (2.0, 0.5)
    assert np.asarray(record.forces).tolist() == [[0.1, 0, 0], [-0.1, 0, 0]]
    assert open_source(path)[1].energy is None  # a plain frame after a blank line
    with pytest.raises(ValueError, match=r"record 1 of .* has no 'E' and no 'REF_E'; found: "):
        open_source(path, labels)[1]


def test_wrong_hessian_width_is_refused(tmp_path: Path) -> None:
    atoms = as_atoms(spring_record((8, 1, 1), 3))
    atoms.arrays["REF_hessian"] = atoms.arrays["REF_hessian"][:, :18].copy()
    write(tmp_path / "x.xyz", atoms, format="extxyz")
    with pytest.raises(ValueError, match=r"record 0 of .* 54 numbers where 9 × 9 = 81"):
        open_source(tmp_path / "x.xyz")[0]


def test_periodic_frame_is_refused(tmp_path: Path) -> None:
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], cell=[5, 5, 5], pbc=True)
    write(tmp_path / "x.xyz", atoms, format="extxyz")
    with pytest.raises(ValueError, match=r"record 0 of .* is periodic"):
        open_source(tmp_path / "x.xyz")[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3\n\nH 0 0 0\nH 0 0 1\n", r"record 0 of .*x\.xyz is cut off: 3 atoms"),
        ("1\n\nH 0 0 0\nhello\n", r"record 1 of .* starts with 'hello'"),
        ("1\n\nH 0 zero 0\n", r"record 0 of .* cannot be understood"),
        ("1\n\nQq 0 0 0\n", r"record 0 of .* cannot be understood"),
        ("", "holds no records"),
    ],
)
def test_bad_text_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.xyz"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        open_source(path)[0]
    assert "\n" not in str(error.value)


def test_source_works_in_other_processes(extxyz_file: Path) -> None:
    source = open_source(extxyz_file)
    own = [source[index].positions for index in range(12)]
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[3].positions, own[3])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for index, read in enumerate(pool.map(_positions, [(source, i) for i in range(12)])):
            np.testing.assert_array_equal(read, own[index])


def test_lmdb_and_extxyz_agree(tmp_path: Path, lmdb_file: Path) -> None:
    first = open_source(lmdb_file)
    path = write_extxyz(tmp_path / "y.extxyz", [first[index] for index in range(12)])
    second = open_source(path)
    for index in range(12):
        assert_same(second[index], first[index], atol=DECIMALS)


def _positions(arguments: tuple[ExtxyzSource, int]) -> np.ndarray:
    source, index = arguments
    return source[index].positions
