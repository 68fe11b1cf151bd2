from pathlib import Path

import h5py
import numpy as np
import pytest
from hessian_files import spring_record, spring_records, write_groups

from sciml.hip.data import HessianData
from sciml.hip.data.files import kind_of, open_source
from sciml.hip.data.record import Record, checked, formula


@pytest.mark.parametrize(
    ("label", "value", "message"),
    [
        ("energy", np.nan, "the energy is nan"),
        ("forces", np.inf, "a number of the forces is not finite"),
        ("hessian", np.nan, "a number of the Hessian is not finite"),
    ],
)
def test_labels_must_be_finite(tmp_path: Path, label: str, value: float, message: str) -> None:
    path = write_groups(tmp_path / "x.h5", spring_records(3))
    with h5py.File(path, "a") as file:
        dataset = file[f"config_batch_0/config_2/properties/{label}"]
        dataset[(0,) * dataset.ndim] = value
    with pytest.raises(ValueError, match=rf"record 2 of .*x\.h5: {message}"):
        open_source(path)[2]


def test_wrong_hessian_size_says_what_is_expected(tmp_path: Path) -> None:
    path = write_groups(tmp_path / "x.h5", spring_records(2))
    with h5py.File(path, "a") as file:
        del file["config_batch_0/config_1/properties/hessian"]
        file["config_batch_0/config_1/properties/hessian"] = np.zeros(80)
    with pytest.raises(ValueError, match=r"record 1 of .* 80 numbers where 9 × 9 = 81"):
        open_source(path)[1]


def test_hessian_far_from_symmetric_is_refused_and_near_is_mended(tmp_path: Path) -> None:
    path = write_groups(tmp_path / "x.h5", spring_records(2))
    with h5py.File(path, "a") as file:
        file["config_batch_0/config_0/properties/hessian"][1] += 0.4
        file["config_batch_0/config_1/properties/hessian"][1] += 0.6
    hessian = np.asarray(open_source(path)[0].hessian)
    np.testing.assert_array_equal(hessian, hessian.T)
    assert hessian[0, 1] == pytest.approx(
        np.asarray(spring_record((6, 1, 1, 1, 1), 0).hessian)[0, 1] + 0.2
    )
    with pytest.raises(ValueError, match=r"record 1 of .* transpose differ by 0\.6 eV/Å²"):
        open_source(path)[1]


def test_second_level_of_theory_is_refused(packed_file: Path) -> None:
    with h5py.File(packed_file, "a") as file:
        file["head"][3] = 1
    with pytest.raises(ValueError, match=r"record 3 of .* head 1; .* one level of theory"):
        open_source(packed_file)[3]


def test_atomic_numbers_must_exist() -> None:
    path_less = Record(np.array([0, 1]), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="atomic numbers must be between 1 and 118"):
        checked(path_less, "record 0 of x.h5")


def test_absent_labels_weigh_nothing() -> None:
    record = Record(np.array([2]), np.zeros((1, 3)), energy=-1.0, energy_weight=0.0)
    found = checked(record, "record 0 of x.h5")
    assert found.energy is found.forces is found.hessian is None
    assert found.energy_weight == found.forces_weight == found.hessian_weight == 0


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [([1, 8, 1], "H2O"), ([8, 1, 6, 1, 1, 1], "CH4O"), ([17, 1], "ClH"), ([6], "C")],
)
def test_hill_formulas(numbers: list[int], expected: str) -> None:
    assert formula(np.array(numbers)) == expected


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.h5"):
        open_source(tmp_path / "absent.h5")
    with pytest.raises(FileNotFoundError, match=r"no file matches .*\*\.lmdb"):
        open_source(tmp_path / "*.lmdb")
    with pytest.raises(FileNotFoundError, match="has no data file"):
        open_source(tmp_path)


def test_unknown_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b")
    with pytest.raises(ValueError, match=r"x\.csv is of an unknown kind; give one of \.lmdb"):
        open_source(tmp_path / "x.csv")
    (tmp_path / "x.h5").write_bytes(b"not HDF5 at all, but long enough")
    with pytest.raises(ValueError, match=r"x\.h5 is no HDF5 file though its name says so"):
        open_source(tmp_path / "x.h5")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["energies"] = [1.0]
    with pytest.raises(ValueError, match="found: energies"):
        open_source(tmp_path / "y.h5")
    with h5py.File(tmp_path / "z.h5", "w") as file:
        file.attrs["format"] = "sciml-hip-9"
    with pytest.raises(ValueError, match="has the format 'sciml-hip-9', this version reads"):
        open_source(tmp_path / "z.h5")


def test_content_decides_not_the_name(tmp_path: Path, lmdb_file: Path, packed_file: Path) -> None:
    assert kind_of(lmdb_file.rename(tmp_path / "data")) == "LMDB"
    assert kind_of(packed_file.rename(tmp_path / "more.lmdb")) == "HDF5"
    assert len(open_source(tmp_path / "data")) == 12


def test_a_folder_of_two_kinds_is_ambiguous(lmdb_file: Path, packed_file: Path) -> None:
    with pytest.raises(ValueError, match="mixes HDF5 and LMDB files"):
        open_source(lmdb_file.parent)
    assert len(open_source(lmdb_file.parent / "*.lmdb")) == 12
    joined = open_source([lmdb_file, packed_file])
    assert len(joined) == 24
    assert joined[13].identifier == 13
    assert joined.level_of_theory == "ωB97X/6-31G(d), springs"
    assert joined.declared_e0 is None  # the second file says nothing
    assert joined.files() == [lmdb_file, packed_file]


def test_joined_files_answer_for_their_parts(
    lmdb_file: Path, packed_file: Path, extxyz_file: Path
) -> None:
    parts = [open_source(path) for path in (lmdb_file, packed_file, extxyz_file)]
    joined = open_source([lmdb_file, packed_file, extxyz_file])
    assert joined.formulas() == [text for part in parts for text in part.formulas()]
    assert joined.sizes().tolist() == [n for part in parts for n in part.sizes().tolist()]
    assert joined.reactions().tolist() == [i // 2 for i in range(12)] * 2 + [-1] * 12
    assert joined.numbers(25).tolist() == [8, 1, 1]
    assert joined.names(12) == ["energy", "forces", "hessian"]
    assert joined.where(25) == f"record 1 of {extxyz_file}"
    joined.close()
    assert joined[25].identifier == 25  # reading opens the files again


def test_lmdb_folder_with_data_mdb(tmp_path: Path, lmdb_file: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    lmdb_file.rename(folder / "data.mdb")
    source = open_source(folder)
    assert len(source) == 12
    assert source.formulas()[1] == "H2O"
    assert HessianData(str(folder)).files() == [folder / "data.mdb"]  # a checksum needs a file
