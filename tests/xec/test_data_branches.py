from typing import Any

import numpy as np
import pytest
from root_files import DEAD, SENSORS, Arrays, events, renamed, without

from sciml.xec.data.branches import (
    CONVENTIONAL,
    SENSOR_READINGS,
    TRUTHS,
    Branch,
    Units,
    branches_of,
    counts_are_relative,
    find_layout,
    invalidate,
    quantities,
)

NAMES = ("npho", "relative_time", "time_min", "run", "event", *TRUTHS, *CONVENTIONAL)


def read(branches: Arrays, units: Units = Units(), names: tuple[str, ...] = NAMES) -> Arrays:  # noqa: B008
    """What a batch holds of branches, as the reader of files goes about it."""
    shapes = {n: Branch(values.shape[1:], values.dtype.kind) for n, values in branches.items()}
    layout = find_layout(shapes, "a.root")
    types = branches_of(layout, names)
    raw = {name: branches[name].astype(kind) for name, kind in types.items()}
    for name in SENSOR_READINGS:
        if layout[name] in raw:
            invalidate(raw[layout[name]])
    return quantities(raw, layout, names, units)


def test_our_own_files() -> None:
    branches = events(4)
    found = read(branches)
    same = {
        "npho": "npho",
        "relative_time": "relative_time",
        "time_min": "time_min_used",
        "energy": "energyTruth",
        "timing": "timeTruth",
        "uvw": "uvwTruth",
        "xyz": "xyzTruth",
        "vertex": "xyzVTX",
        "direction": "emiVec",
        "run": "run",
        "event": "event",
        "n_gamma": "nGamma",
    }
    assert found.keys() == same.keys()
    for name, branch in same.items():
        np.testing.assert_array_equal(found[name], branches[branch])
        whole = name in {"run", "event", "n_gamma"}
        assert found[name].dtype == (np.int64 if whole else np.float32)


def test_scalars_may_have_an_axis_of_their_own() -> None:
    branches = events(3)
    wrapped = {name: v[:, None] if v.ndim == 1 else v for name, v in branches.items()}
    plain, found = read(branches), read(wrapped)
    for name, values in plain.items():
        np.testing.assert_array_equal(found[name], values)


def test_other_names() -> None:
    branches = events(3)
    plain = read(branches)
    other = without(branches, "emiVec", "emiAng")
    other["angleVec"] = branches["emiVec"]
    other = renamed(other, energyTruth="energy", timeTruth="timing", uvwTruth="uvwFI")
    found = read(other)
    for name in ("energy", "timing", "uvw", "direction"):
        np.testing.assert_array_equal(found[name], plain[name])


@pytest.mark.parametrize("name", ["emiAng", "angleVec"])
@pytest.mark.parametrize("numbers", [2, 3])
def test_directions_come_as_angles_or_vectors(name: str, numbers: int) -> None:
    branches = events(20)
    other = without(branches, "emiVec", "emiAng")
    other[name] = branches["emiAng" if numbers == 2 else "emiVec"]
    found = read(other)["direction"]
    assert found.shape == (20, 3)
    np.testing.assert_allclose(found, branches["emiVec"], atol=1e-6)


def test_relative_counts_become_photons() -> None:
    branches = events(3)
    largest = branches["npho_max_used"]
    other = without(branches, "npho")
    other["relative_npho"] = branches["npho"] / largest[:, None]
    other["relative_npho"][:, 17] = DEAD
    found = read(other)["npho"]
    np.testing.assert_allclose(found, branches["npho"], rtol=1e-6)
    other["npho_max_used"] = np.array([1e10, np.nan, largest[2]], "f4")
    found = read(other)["npho"]
    assert (found[:2] == np.float32(DEAD)).all()
    assert found[2, 0] == 2


def test_relative_counts_without_the_largest_stay_as_they_are() -> None:
    branches = without(renamed(events(3), npho="relative_npho"), "npho_max_used")
    shapes = {name: Branch(v.shape[1:], v.dtype.kind) for name, v in branches.items()}
    assert counts_are_relative(find_layout(shapes, "a.root"))
    np.testing.assert_array_equal(read(branches)["npho"], branches["relative_npho"])


def absolute(branches: Arrays) -> Arrays:
    other = without(branches, "relative_time")
    times, start = branches["relative_time"].astype("f8"), branches["time_min_used"]
    other["time"] = np.where(times < 9e9, times + start[:, None], DEAD)
    return other


def test_absolute_times_become_relative() -> None:
    branches = events(5)
    found = read(absolute(branches))
    expected = branches["relative_time"]
    valid = expected < 9e9
    assert found["relative_time"].dtype == np.float32
    # float32 of -6e-7 s has steps of 6e-14 s
    np.testing.assert_allclose(found["relative_time"][valid], expected[valid], atol=2e-13)
    assert (found["relative_time"][~valid] == np.float32(DEAD)).all()
    np.testing.assert_array_equal(found["time_min"], branches["time_min_used"])


def test_the_earliest_bright_channel_is_the_reference() -> None:
    times = np.full((4, SENSORS), DEAD)
    times[:, :4] = [-5e-7, -6e-7, -4e-7, DEAD]
    charge = np.zeros((4, SENSORS), "f4")
    charge[0, [0, 2]] = 51  # channel 1 is earlier, but too dim
    charge[1, :3] = 60
    times[3] = DEAD  # no hit at all
    charge[2, 3] = 99  # bright without a time: all are dim, so the earliest counts
    branches = without(absolute(events(4)), "time_min_used") | {"time": times, "nphe": charge}
    found = read(branches)
    np.testing.assert_allclose(found["time_min"], [-5e-7, -6e-7, -6e-7, np.nan], rtol=1e-6)
    np.testing.assert_allclose(found["relative_time"][0, :3], [0, -1e-7, 1e-7], atol=2e-13)
    assert (found["relative_time"][:3, 3] == np.float32(DEAD)).all()
    assert (found["relative_time"][3] == np.float32(DEAD)).all()


def test_photo_electrons_are_estimated_where_they_are_not_stored() -> None:
    times = np.full((1, SENSORS), DEAD)
    times[0, [0, 1, 4100]] = [-6e-7, -5e-7, -5.5e-7]
    npho = np.zeros((1, SENSORS), "f4")
    npho[0, [0, 1, 4100]] = [400, 440, 320]  # 48 and 53 of an SiPM, 51 of a PMT
    branches = without(absolute(events(1)), "time_min_used") | {"time": times, "npho": npho}
    assert read(branches)["time_min"][0] == np.float32(-5.5e-7)


def test_units_are_factors_and_leave_invalid_values_alone() -> None:
    branches = events(3)
    branches |= {"energyReco": branches["energyTruth"], "timeReco": branches["timeTruth"]}
    branches["energyTruth"][0] = DEAD
    plain = read(branches)
    found = read(branches, Units(energy=1e-3, timing=1e9, time=1e-9))
    np.testing.assert_allclose(found["energy"][1:], plain["energy"][1:] * 1e-3)
    assert np.isnan(found["energy"][0])
    np.testing.assert_allclose(found["reco_energy"], plain["reco_energy"] * 1e-3)
    np.testing.assert_allclose(found["timing"], plain["timing"] * 1e9)
    np.testing.assert_allclose(found["reco_timing"], plain["reco_timing"] * 1e9)
    np.testing.assert_allclose(found["time_min"], plain["time_min"] * 1e-9)
    valid = plain["relative_time"] < 9e9
    np.testing.assert_allclose(found["relative_time"][valid], plain["relative_time"][valid] * 1e-9)
    assert (found["relative_time"][~valid] == np.float32(DEAD)).all()
    assert {values.dtype.name for values in found.values()} == {"float32", "int64"}


def test_missing_truths_are_nan_and_never_0() -> None:
    branches = events(3)
    branches["uvwTruth"][1, 2] = DEAD
    branches["timeTruth"][:] = [np.inf, np.nan, -600]
    found = read(branches)
    assert np.isnan(found["uvw"]).tolist() == [[False] * 3, [False, False, True], [False] * 3]
    assert np.isnan(found["timing"]).tolist() == [True, True, False]


@pytest.mark.parametrize("name", ["uvwRecoFI", "xyzRecoFI", "uvwRecoLC", "xyzRecoLC"])
def test_conventional_positions(name: str) -> None:
    # x, y, z of the place u = 3, v = 0, w = 2 with R = 64.97 cm
    place = [3.0, 0.0, 2.0] if name.startswith("uvw") else [-66.97, 0.0, 3.0]
    branches = events(2) | {name: np.array([place, place], "f4")}
    np.testing.assert_allclose(read(branches)["reco_uvw"], [[3, 0, 2]] * 2, atol=1e-5)


def test_what_is_not_finite_becomes_invalid_and_is_counted() -> None:
    values = np.ones((3, 5), np.float32)
    assert invalidate(values) == 0
    values[0, 1], values[2, 2], values[2, 3] = np.nan, np.inf, -np.inf
    assert invalidate(values) == 3
    assert (values == np.float32(DEAD)).sum() == 3
    assert values.dtype == np.float32
    large = np.full((2, 3), 3e38, np.float32)  # finite, but its sum is not
    assert invalidate(large) == 0


def shapes(**changed: Any) -> dict[str, Branch]:
    return {"npho": Branch((4760,), "f"), "relative_time": Branch((4760,), "f"), **changed}


@pytest.mark.parametrize(
    ("branches", "words"),
    [
        ({"x": Branch((), "f")}, r"a.root has no branch npho or relative_npho; its branches are x"),
        (
            {"npho": Branch((4760,), "f"), "energy": Branch((1,), "f")},
            r"no branch relative_time or time; its branches are npho\[4760\], energy\[1\]",
        ),
        (shapes(npho=Branch((100,), "f")), "a.root has 100 values of npho an event where there"),
        (shapes(relative_time=Branch(None, "O")), "no fixed number of values of relative_time"),
        ({}, "its branches are none"),
    ],
)
def test_sensor_readings_that_are_missing_are_told(branches: dict[str, Branch], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        find_layout(branches, "a.root")


def test_truths_of_another_shape_are_no_truths() -> None:
    layout = find_layout(shapes(energyTruth=Branch((5,), "f"), uvwTruth=Branch((), "f")), "a.root")
    assert layout == {"npho": "npho", "relative_time": "relative_time"}
    layout = find_layout(shapes(energyTruth=Branch(None, "O"), energy=Branch((1, 1), "f")), "a")
    assert layout["energy"] == "energy"
