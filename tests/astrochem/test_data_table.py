from pathlib import Path

import h5py
import numpy as np
import pytest
from tracers import SPECIES, sample_table

from sciml.astrochem.data.table import TracerTable, concatenate
from sciml.astrochem.data.writer import GroupWriter, write_groups


def test_selected_tracers_keep_their_rows_and_numbers() -> None:
    table = sample_table((5, 7, 4), numbers=(10, 20, 30))
    some = table.select([2, 0])
    assert some.ptr.tolist() == [[30, 0, 4], [10, 4, 5]]
    assert some.tracer.tolist() == [30] * 4 + [10] * 5
    assert np.array_equal(some.values, np.concatenate([table.values[12:], table.values[:5]]))
    assert np.array_equal(some.time[4:], table.time[:5])


def test_no_tracers_can_be_selected() -> None:
    assert len(sample_table().select([])) == 0


def test_tables_are_joined_with_new_numbers() -> None:
    one, other = sample_table((5, 3)), sample_table((4,), seed=9)
    one.meta["origin"], other.meta["origin"] = [["a", "g", 0], ["a", "g", 1]], [["b", "g", 0]]
    both = concatenate([one, other])
    assert both.ptr.tolist() == [[0, 0, 5], [1, 5, 3], [2, 8, 4]]
    assert np.array_equal(both.values, np.concatenate([one.values, other.values]))
    assert both.meta["origin"][2] == ["b", "g", 0]


def test_tables_of_other_species_are_not_joined() -> None:
    one, other = sample_table(), sample_table()
    other.species = (*SPECIES[:-1], "N")
    with pytest.raises(ValueError, match="other species cannot be put together: N, O"):
        concatenate([one, other])
    with pytest.raises(ValueError, match="no tables"):
        concatenate([])


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    table = sample_table()
    with pytest.raises(ValueError, match="a table of 8 species cannot have values"):
        TracerTable(table.values[:-1], table.time, table.tracer, table.ptr, table.species)


def test_file_says_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    table = sample_table()
    write_groups(
        path,
        {"train": table},
        dt_yr=1e4,
        generator="springs",
        initial="atomic",
        seed=3,
        attributes={"family": "grav"},
        group_attributes={"train": {"cpu_s_per_tracer_step": 0.02}},
    )
    with h5py.File(path) as file:
        assert file.attrs["format"] == "sciml-astrochem-1"
        assert file.attrs["dt_yr"] == 1e4
        assert file.attrs["physics_alignment"] == "interval"
        assert file.attrs["family"] == "grav"
        assert "network_sha256" not in file.attrs
        assert list(file.attrs["elements"])[:2] == ["H", "HE"]
        group = file["train"]
        assert group.attrs["cpu_s_per_tracer_step"] == 0.02
        assert group["data"].compression == "gzip"
        assert group["data"].shuffle
        labels = [label.decode() for label in group["columns"][:]]
        assert labels == ["time", "density", "rad_field", "av", "temperature", *SPECIES]
        assert np.array_equal(group["data"][:, 1:], table.values)
        assert np.array_equal(group["tracer_ptr"][:], table.ptr)


def test_tracers_are_appended(tmp_path: Path) -> None:
    table = sample_table((5, 7, 4))
    with GroupWriter(tmp_path / "a.h5", dt_yr=1e4, generator="springs") as writer:
        for place in range(3):
            writer.add("train", table.select([place]))
    with h5py.File(tmp_path / "a.h5") as file:
        assert np.array_equal(file["train/data"][:, 1:], table.values)
        assert np.array_equal(file["train/tracer_ptr"][:], table.ptr)
        assert np.array_equal(file["train/tracer_id"][:], table.tracer)


def test_existing_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.h5").touch()
    with pytest.raises(ValueError, match=r"a\.h5 exists"):
        write_groups(tmp_path / "a.h5", {}, dt_yr=1.0, generator="")


def test_failed_file_does_not_appear(tmp_path: Path) -> None:
    table = sample_table()
    other = sample_table()
    other.species = (*SPECIES[:-1], "N")

    def write_both() -> None:
        with GroupWriter(tmp_path / "a.h5", dt_yr=1.0, generator="") as writer:
            writer.add("train", table)
            writer.add("train", other)

    with pytest.raises(ValueError, match="begun with other species"):
        write_both()
    assert not (tmp_path / "a.h5").exists()
