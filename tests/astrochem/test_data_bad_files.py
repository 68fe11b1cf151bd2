from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from layouts import write_array, write_clean, write_plain, write_text
from tracers import sample_table

from sciml.astrochem.data.files import read_table
from sciml.astrochem.physics.species import stoichiometric_matrix


def plain(folder: Path) -> Path:
    return write_plain(folder / "a.h5", {"large": sample_table()})


def change(path: Path, change: Callable[[h5py.Group], None]) -> Path:
    with h5py.File(path, "a") as file:
        change(file["large"])
    return path


def rename(group: h5py.Group, old: str, new: str) -> None:
    labels = [new if label == old.encode() else label.decode() for label in group["columns"][:]]
    del group["columns"]
    group["columns"] = np.array([label.encode() for label in labels])


def check_refused(path: Path, sentence: str) -> None:
    """Reading stops with one sentence that names the file."""
    with pytest.raises(ValueError, match=sentence) as caught:
        read_table(path)
    text = str(caught.value)
    assert path.name in text
    assert "\n" not in text


def test_filter_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = plain(tmp_path)
    with h5py.File(path, "a") as file:
        del file["large/data"]
        space = h5py.h5s.create_simple((16, 13))
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4, 13))
        plist.set_filter(32001, h5py.h5z.FLAG_OPTIONAL)  # blosc, as PyTables writes it
        h5py.h5d.create(file["large"].id, b"data", h5py.h5t.NATIVE_FLOAT, space, plist)
    check_refused(
        path, "data of group large of .* is compressed with blosc, which h5py cannot read"
    )


@pytest.mark.parametrize(
    ("label", "column"), [("density", "Density"), ("time", "Time"), ("av", "Av")]
)
def test_missing_column_is_named(label: str, column: str, tmp_path: Path) -> None:
    path = change(plain(tmp_path), lambda group: rename(group, label, "zeta"))
    check_refused(path, f"group large of .* has no column {column}; it has ")


def test_name_that_does_not_parse_is_named(tmp_path: Path) -> None:
    path = change(plain(tmp_path), lambda group: rename(group, "CO", "Qx7"))
    check_refused(path, "neither conditions nor species of the elements H HE .*: Qx7; rename")


def test_species_in_two_spellings_are_named(tmp_path: Path) -> None:
    def spell(group: h5py.Group) -> None:
        rename(group, "CO", "CH3OH")
        rename(group, "C", "CH4O")

    path = change(plain(tmp_path), spell)
    check_refused(path, "has the species CH4O twice, as CH3OH and CH4O; remove one")


@pytest.mark.parametrize("time", [1e4, 0.0, np.nan])
def test_time_that_does_not_increase_is_located(time: float, tmp_path: Path) -> None:
    table = sample_table(numbers=(7, 3, 11))
    table.time[7] = time  # row 2 of the second tracer
    path = write_plain(tmp_path / "a.h5", {"large": table})
    check_refused(path, "time of tracer 3 in group large of .* does not increase at its row 2: ")


def test_condition_without_logarithm_is_located(tmp_path: Path) -> None:
    table = sample_table(numbers=(7, 3, 11))
    table.values[13, 1] = 0
    path = write_plain(tmp_path / "a.h5", {"large": table})
    check_refused(path, r"Radfield is 0 in row 1 of tracer 11 in group large of .* \(1 conditions")


def test_matrix_that_disagrees_is_refused(tmp_path: Path) -> None:
    path = plain(tmp_path)
    matrix = stoichiometric_matrix(sample_table().species[::-1])  # in the order of the file

    def store(group: h5py.Group) -> None:
        group["stoichiometric_matrix"] = matrix

    change(path, store)
    read_table(path)

    def spoil(group: h5py.Group) -> None:
        group["stoichiometric_matrix"][4, 2] = 2

    change(path, spoil)
    check_refused(path, "stored stoichiometric matrix disagrees with the names of CO;")


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_file_that_is_cut_short_is_refused(kept: float, tmp_path: Path) -> None:
    path = plain(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    check_refused(path, "is damaged or cut short, copy it again")


def test_array_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_array(tmp_path / "large.npy", sample_table())
    path.write_bytes(path.read_bytes()[:-8])
    check_refused(path, "is cut short: it has fewer than its 16 rows")


def test_array_without_names_is_refused(tmp_path: Path) -> None:
    path = write_array(tmp_path / "large.npy", sample_table())
    (tmp_path / "large_columns.json").write_text('{"0": "Index"}')
    check_refused(path, "does not name the columns 0 to 14")
    (tmp_path / "large_columns.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"large_columns\.json is missing"):
        read_table(path)


def test_file_without_tracers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(3)
    check_refused(path, "holds no tracers")


def test_group_without_tracers_is_refused(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "a.h5", {"large": sample_table(())})
    check_refused(path, "group large of .* holds no tracers")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"b\.h5 is missing; name a file of tracers"):
        read_table(tmp_path / "b.h5")


def test_extents_that_overlap_are_refused(tmp_path: Path) -> None:
    def overlap(group: h5py.Group) -> None:
        group["tracer_ptr"][1, 1] = 4

    check_refused(change(plain(tmp_path), overlap), "names rows that overlap or lie outside")


def test_names_that_do_not_fit_the_data_are_refused(tmp_path: Path) -> None:
    def shorten(group: h5py.Group) -> None:
        labels = group["columns"][:-1]
        del group["columns"]
        group["columns"] = labels

    check_refused(change(plain(tmp_path), shorten), "has 12 names of columns for data of the shape")


def test_frame_without_a_block_of_a_column_is_refused(tmp_path: Path) -> None:
    path = write_clean(tmp_path / "a.h5", "large", sample_table())

    def cut(group: h5py.Group) -> None:
        del group["block1_items"], group["block1_values"]

    check_refused(change(path, cut), "has no block for its columns Index, Model")


def test_frame_in_table_format_is_refused(tmp_path: Path) -> None:
    path = write_clean(tmp_path / "a.h5", "large", sample_table())

    def mark(group: h5py.Group) -> None:
        group.attrs["pandas_type"] = np.bytes_(b"frame_table")

    check_refused(change(path, mark), "table format of pandas; write it again")


def test_text_files_of_other_columns_are_refused(tmp_path: Path) -> None:
    folder = write_text(tmp_path / "large", sample_table())
    first = folder / "cloud02.csv"
    first.write_text(first.read_text().replace("H2,", "N2,", 1))
    with pytest.raises(ValueError, match=r"cloud02\.csv does not have the columns of .*cloud00"):
        read_table(folder)


def test_text_that_is_no_number_is_refused(tmp_path: Path) -> None:
    folder = write_text(tmp_path / "large", sample_table())
    path = folder / "cloud00.csv"
    path.write_text(path.read_text().replace("e+04", "e+04x", 1))
    check_refused(path, "has a row that is not numbers alone")


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    check_refused(tmp_path / "none", "is a folder without csv files")


def test_other_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"PK\x03\x04\0\0")
    check_refused(path, "neither HDF5, npy nor csv")


def test_condition_in_two_spellings_is_refused(tmp_path: Path) -> None:
    path = change(plain(tmp_path), lambda group: rename(group, "av", "gasTemp"))
    check_refused(path, "has the column gasTemp twice, as gasTemp and temperature; remove one")


def test_unknown_alignment_is_refused(tmp_path: Path) -> None:
    def align(group: h5py.Group) -> None:
        group.attrs["physics_alignment"] = "both"

    check_refused(
        change(plain(tmp_path), align), "has the physics_alignment both; it is interval or"
    )


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("tracer_ptr", np.zeros((3, 2), int), r"has the shape \(3, 2\); it has to be \[n, 3\]"),
        ("tracer_id", np.zeros(4, int), r"has the shape \(4,\) for 16 rows of data"),
        ("columns", np.arange(13), "have numbers for names"),
    ],
)
def test_datasets_of_a_wrong_shape_are_refused(
    name: str, values: np.ndarray, sentence: str, tmp_path: Path
) -> None:
    def replace(group: h5py.Group) -> None:
        del group[name]
        group[name] = values

    check_refused(change(plain(tmp_path), replace), sentence)
