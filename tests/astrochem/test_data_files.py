from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from layouts import (
    columns_of,
    labels_of,
    write_array,
    write_clean,
    write_frame,
    write_older,
    write_plain,
    write_text,
)
from shared import ASTROCHEM, needs_shared
from tracers import SPECIES, STEP, sample_table

from sciml.astrochem.data.arrays import TextGrid
from sciml.astrochem.data.files import Reading, open_file, read_table
from sciml.astrochem.data.table import TracerTable, concatenate
from sciml.astrochem.data.writer import write_groups
from sciml.astrochem.physics.species import default_species, initial_abundances

NUMBERS = (7, 3, 11)


def table() -> TracerTable:
    """Three tracers of different lengths that are not numbered in order."""
    return sample_table((5, 7, 4), numbers=NUMBERS)


def write_own(path: Path, groups: dict[str, TracerTable]) -> Path:
    write_groups(path, groups, dt_yr=STEP, generator="test")
    return path


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "frame": lambda folder: write_clean(folder / "a.h5", "large", table()),
    "plain": lambda folder: write_plain(folder / "a.h5", {"large": table()}),
    "without extents": lambda folder: write_plain(
        folder / "a.h5", {"large": table()}, tracer_ptr=False
    ),
    "older": lambda folder: write_older(folder / "a.h5", table()),
    "array": lambda folder: write_array(folder / "large.npy", table()),
    "own": lambda folder: write_own(folder / "a.h5", {"large": table()}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_table(layout: str, tmp_path: Path) -> None:
    found = read_table(LAYOUTS[layout](tmp_path))["large"]
    assert found.species == SPECIES
    assert np.array_equal(found.values, table().values)
    assert np.array_equal(found.time, table().time)
    assert np.array_equal(found.ptr, table().ptr)
    assert np.array_equal(found.tracer, table().tracer)
    origins = [number for _, _, number in found.meta["origin"]]
    assert origins == list(NUMBERS)


def test_text_output_gives_a_tracer_a_file(tmp_path: Path) -> None:
    found = read_table(write_text(tmp_path / "large", table()))["large"]
    assert found.species == SPECIES
    np.testing.assert_allclose(found.values, table().values, rtol=1e-7)
    assert found.ptr.tolist() == [[0, 0, 5], [1, 5, 7], [2, 12, 4]]
    alone = read_table(tmp_path / "large" / "cloud01.csv")["cloud01"]
    assert np.array_equal(alone.values, found.values[5:12])


def test_text_is_parsed_once_for_all_slabs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = TextGrid(write_text(tmp_path / "large", table()))
    whole = grid.read(0, 16, [1, 2])
    parsed: list[Path] = []
    load = np.loadtxt

    def counted(path: Path, **how: Any) -> np.ndarray:
        parsed.append(path)
        return load(path, **how)

    monkeypatch.setattr(np, "loadtxt", counted)
    slabs = [grid.read(first, first + 2, [1, 2]) for first in range(0, 16, 2)]
    assert np.array_equal(np.concatenate(slabs), whole)
    assert [path.name for path in parsed] == [f"cloud0{n}.csv" for n in range(3)]


def test_column_of_text_can_tell_the_tracers(tmp_path: Path) -> None:
    def write(path: Path, part: TracerTable) -> None:
        head = ",".join(labels_of(part))
        np.savetxt(path, columns_of(part), fmt="%.9e", delimiter=",", header=head, comments="")

    (tmp_path / "large").mkdir()
    write(tmp_path / "large" / "a.csv", table())
    write(tmp_path / "large" / "b.csv", table().select([2, 0]))
    alone = read_table(tmp_path / "large" / "a.csv")["a"]
    assert alone.ptr[:, 0].tolist() == list(NUMBERS)
    both = read_table(tmp_path / "large")["large"]
    assert both.ptr[:, 2].tolist() == [5, 7, 4, 4, 5]  # equal numbers in two files are two tracers


def test_field_of_text_output_is_raised_to_its_floor(tmp_path: Path) -> None:
    shielded = table()
    shielded.values[2, 1] = 0
    found = read_table(write_text(tmp_path / "large", shielded))["large"]
    assert found.values[2, 1] == np.float32(1e-4)


@pytest.mark.parametrize("limit", [1, 400, 10**6])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_chunks_are_whole_tracers_that_make_up_the_table(
    layout: str, limit: int, tmp_path: Path
) -> None:
    source = open_file(LAYOUTS[layout](tmp_path))[0]
    chunks = list(source.chunks(limit))
    assert len(chunks) == {1: 3, 400: 3, 10**6: 1}[limit]
    assert np.array_equal(concatenate(chunks).values, table().values)
    assert np.array_equal(source.ptr, table().ptr)


def test_blocks_of_a_frame_are_put_together_by_label(tmp_path: Path) -> None:
    labels, values = labels_of(table()), columns_of(table())
    for number, seed in enumerate((1, 2)):
        order = np.random.default_rng(seed).permutation(len(labels))
        mixed = [labels[place] for place in order]
        blocks = [mixed[5:9], mixed[:5], mixed[9:]]
        write_frame(tmp_path / "a.h5", f"key{number}", labels, values, split=blocks)
    for found in read_table(tmp_path / "a.h5").values():
        assert np.array_equal(found.values, table().values)


def test_rows_of_a_tracer_need_not_lie_together(tmp_path: Path) -> None:
    labels, values = labels_of(table()), columns_of(table())
    by_time = np.argsort(values[:, 2], kind="stable")  # all tracers at the first time, and so on
    write_frame(tmp_path / "a.h5", "large", labels, values[by_time])
    found = read_table(tmp_path / "a.h5")["large"]
    assert found.ptr[:, 0].tolist() == [3, 7, 11]
    for number, _, _ in table().ptr.tolist():
        rows = table().tracer == number
        assert np.array_equal(found.values[found.tracer == number], table().values[rows])


def test_extents_may_list_tracers_in_any_order(tmp_path: Path) -> None:
    write_plain(tmp_path / "a.h5", {"large": table()})
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["large/tracer_ptr"][...] = table().ptr[[2, 0, 1]]
    found = read_table(tmp_path / "a.h5")["large"]
    assert np.array_equal(found.values, table().select([2, 0, 1]).values)


def test_conditions_stored_with_the_state_they_made_are_shifted(tmp_path: Path) -> None:
    state = table()
    for _, start, length in state.ptr.tolist():
        state.values[start + 1 : start + length, :4] = state.values[start : start + length - 1, :4]
    path = write_plain(tmp_path / "a.h5", {"large": state})
    shifted = read_table(path, reading=Reading(physics_alignment="state"))["large"]
    assert np.array_equal(shifted.values, table().values)
    assert np.array_equal(read_table(path)["large"].values, state.values)
    with h5py.File(path, "a") as file:
        file.attrs["physics_alignment"] = "state"
    assert np.array_equal(read_table(path)["large"].values, table().values)
    kept = read_table(path, reading=Reading(physics_alignment="interval"))["large"]
    assert np.array_equal(kept.values, state.values)


def test_raw_output_is_sorted_completed_and_shifted(tmp_path: Path) -> None:
    # two histories by hand: the row at time t holds the state at t and the conditions before t
    labels = ["Time", "Density", "gasTemp", "Av", "radfield", "dustTemp", "Tracer", "zeta", "dstep"]
    labels += ["CH3OH", "#CO", "SURFACE", "BULK"]
    rows = [  # time, n, T, Av, G, ., tracer, ., ., CH3OH, #CO, ., .
        [2e4, 300, 12, 3, 0, 9, 5, 1, 1, 3e-9, 2e-5, 0, 0],
        [1e4, 200, 13, 2, 1, 9, 5, 1, 1, 2e-9, 1e-5, 0, 0],
        [1e4, 700, 17, 7, 2, 9, 2, 1, 1, 5e-9, 4e-5, 0, 0],
    ]
    write_frame(tmp_path / "a.h5", "df", labels, np.array(rows))
    found = read_table(tmp_path / "a.h5")["df"]
    assert found.species == ("#CO", "CH4O")
    assert found.meta["original_names"] == ("#CO", "CH3OH")
    assert found.ptr.tolist() == [[2, 0, 2], [5, 2, 3]]
    assert found.time.tolist() == [0, 1e4, 0, 1e4, 2e4]
    expected = [
        [700, 2, 7, 17, 1e-30, 1e-30],
        [700, 2, 7, 17, 4e-5, 5e-9],
        [200, 1, 2, 13, 1e-30, 1e-30],
        [300, 1e-4, 3, 12, 1e-5, 2e-9],
        [300, 1e-4, 3, 12, 2e-5, 3e-9],
    ]
    np.testing.assert_allclose(found.values, expected, rtol=1e-7)


def test_structural_names_are_brought_to_formulas_and_kept(tmp_path: Path) -> None:
    other = table()
    other.species = ("#CH3OH", *SPECIES[1:])
    found = read_table(write_plain(tmp_path / "a.h5", {"large": other}))["large"]
    assert found.species == ("#CH4O", *SPECIES[1:])
    assert found.meta["original_names"] == ("#CH3OH", *SPECIES[1:])


@pytest.mark.parametrize(
    ("generator", "name"), [("embedded", "#CH3OH"), ("uclchem", "#CH4O"), (None, "#CH4O")]
)
def test_our_own_file_keeps_the_names_of_other_networks(
    generator: str | None, name: str, tmp_path: Path
) -> None:
    other = table()
    other.species = ("#CH3OH", *SPECIES[1:])
    path = tmp_path / "a.h5"
    write_groups(path, {"a": other}, dt_yr=STEP, generator=generator or "")
    if generator is None:
        with h5py.File(path, "a") as file:
            del file.attrs["generator"]
    assert read_table(path)["a"].species[0] == name


def test_time_of_our_own_file_is_exact(tmp_path: Path) -> None:
    late = table()
    late.time += 123456789.0  # more digits than float32 holds
    found = read_table(write_own(tmp_path / "a.h5", {"large": late}))["large"]
    assert np.array_equal(found.time, late.time)


def test_groups_can_be_chosen(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "a.h5", {"long": table(), "short": table().select([0])})
    assert list(read_table(path)) == ["long", "short"]
    assert list(read_table(path, ["short"])) == ["short"]
    with pytest.raises(ValueError, match=r"a\.h5 has no group static; it has long, short"):
        read_table(path, ["static"])


def test_bad_abundances_are_an_error_that_says_where(tmp_path: Path) -> None:
    bad = table()
    bad.values[6, 5] = np.nan
    bad.values[9, 6] = -1e-9
    path = write_plain(tmp_path / "a.h5", {"large": bad})
    with pytest.raises(ValueError, match="2 abundances of group large of") as caught:
        read_table(path)
    assert "C is nan in row 1 of tracer 3;" in str(caught.value)


def test_bad_abundances_are_raised_to_the_floor_on_request(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    bad = table()
    bad.values[6, 5], bad.values[9, 6] = np.nan, -1e-9
    path = write_plain(tmp_path / "a.h5", {"large": bad})
    found = read_table(path, reading=Reading(on_bad="clip"))["large"]
    assert (found.values[6, 5], found.values[9, 6]) == (np.float32(1e-30), np.float32(1e-30))
    assert "2 abundances of group large of" in told.text


@needs_shared
def test_both_supplied_spellings_give_the_same_species() -> None:
    grav = read_table(ASTROCHEM / "uclchem_grav.h5")
    extra = read_table(ASTROCHEM / "uclchem_extra.h5")
    assert {len(one.ptr) for one in grav.values()} == {27, 9}
    assert [len(extra[name].ptr) for name in ("evolved", "long", "static")] == [4, 3, 2]
    for found in (*grav.values(), *extra.values()):
        assert found.species == default_species()
    start = grav["train"].abundances[0]
    np.testing.assert_allclose(start, initial_abundances(default_species()), rtol=1e-6)
    assert extra["long"].meta["original_names"] != default_species()


@needs_shared
def test_supplied_frame_equals_its_blocks() -> None:
    found = read_table(ASTROCHEM / "uclchem_grav.h5")["val"]
    with h5py.File(ASTROCHEM / "uclchem_grav.h5") as file:
        items = [item.decode() for item in file["val/block0_items"][:]]
        for name in ("gasTemp", "#CO", "SI+"):
            column = file["val/block0_values"][:, items.index(name)]
            place = ("Density", "Radfield", "Av", "gasTemp", *found.species).index(name)
            assert np.array_equal(found.values[:, place], column)
