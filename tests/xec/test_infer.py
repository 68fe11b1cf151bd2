import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
import uproot
from checkpoints import SMALL, small_task
from numpy.typing import NDArray
from root_files import DEAD, cut_short, damage, events, make_files, renamed, without, write_file
from torch import Tensor

from sciml.core.parallel import Tally
from sciml.xec.apply import infer as module
from sciml.xec.apply.infer import Streaming, Summary, infer
from sciml.xec.apply.reconstructor import Reconstructor
from sciml.xec.data import RootStream
from sciml.xec.data.branches import BadFileError, Units
from sciml.xec.data.writer import EventWriter
from sciml.xec.net import XECv1, XECv2
from sciml.xec.physics.constants import LIGHT

Arrays = Mapping[str, NDArray[Any]]
NAMES = [
    *("run_id", "event_id"),
    *("pred_theta", "pred_phi", "true_theta", "true_phi", "opening_angle"),
    *("pred_ex", "pred_ey", "pred_ez"),
    *("pred_energy", "true_energy", "pred_timing", "true_timing"),
    *("pred_u", "pred_v", "pred_w", "true_u", "true_v", "true_w"),
    *("sig_u", "sig_v", "sig_w", "sig_energy", "sig_timing", "sig_direction"),
    *("x_vtx", "y_vtx", "z_vtx"),
]
TRUTHS = ("energyTruth", "timeTruth", "uvwTruth", "xyzTruth", "xyzVTX", "emiVec", "emiAng")
COUNTS = (13, 9)
BATCH = 5


@pytest.fixture(scope="module")
def reconstructor() -> Reconstructor:
    return Reconstructor(small_task())


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return make_files(tmp_path / "data", *COUNTS)


def run(
    reconstructor: Reconstructor, paths: Sequence[Path], out: Path, **settings: Any
) -> tuple[dict[str, NDArray[Any]], Summary]:
    """The table of a run with small batches, and what the run says."""
    streaming = Streaming(**{"batch_size": BATCH, **settings})
    summary = infer(reconstructor, paths, out, streaming=streaming)
    return read(out), summary


def read(path: Path) -> dict[str, NDArray[Any]]:
    """Columns of a table, by the library that others use."""
    if path.suffix == ".root":
        with uproot.open({str(path): None}) as file:
            assert file.keys(cycle=False) == ["val_tree"]
            return dict(file["val_tree"].arrays(library="np"))
    if path.suffix == ".csv":
        options = pyarrow.csv.ConvertOptions(null_values=[])
        table = pyarrow.csv.read_csv(path, convert_options=options)
    else:
        table = pyarrow.parquet.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}


def same(left: Arrays, right: Arrays) -> bool:
    """Equal to the last bit."""
    return list(left) == list(right) and all(
        np.array_equal(left[name], right[name], equal_nan=True) for name in left
    )


def batches(path: Path) -> list[dict[str, Tensor]]:
    """What training would predict of a file."""
    return list(RootStream(predict=str(path), batch_size=BATCH).loader("predict"))


# columns


def test_columns_are_those_of_the_list_and_of_their_types(
    reconstructor: Reconstructor, paths: list[Path], tmp_path: Path
) -> None:
    table, _ = run(reconstructor, paths, tmp_path / "out.root")
    assert sorted(table) == sorted(NAMES)
    assert list(table)[:2] == ["run_id", "event_id"]
    assert {name: values.dtype.str[1:] for name, values in table.items()} == {
        name: "i4" if name.endswith("_id") else "f4" for name in NAMES
    }


def test_the_table_holds_what_the_task_gives_for_the_batches_of_the_loader(
    reconstructor: Reconstructor, paths: list[Path], tmp_path: Path
) -> None:
    table, summary = run(reconstructor, paths, tmp_path / "out.root")
    every = [batch for path in paths for batch in batches(path)]
    with torch.no_grad():
        found = [reconstructor.task.predict_step(batch, 0) for batch in every]
    expected = {name: torch.cat([one[name] for one in found]).numpy() for name in found[0]}
    assert len(table["run_id"]) == sum(COUNTS) == summary.counts["events"]
    assert table["run_id"].tolist() == [0] * COUNTS[0] + [1] * COUNTS[1]
    assert table["event_id"].tolist() == [*range(COUNTS[0]), *range(COUNTS[1])]
    shared = [name for name in NAMES if name in expected]
    assert len(shared) == 19  # of the 29 all but ids, angles and vertex
    for name in shared:
        np.testing.assert_allclose(table[name], expected[name], rtol=1e-6, atol=1e-6)


def test_truths_angles_and_vertex_are_those_of_the_file(
    reconstructor: Reconstructor, paths: list[Path], tmp_path: Path
) -> None:
    table, _ = run(reconstructor, paths[:1], tmp_path / "out.root")
    given = events(COUNTS[0], 0, run=0)
    pairs: dict[str, NDArray[Any]] = {
        "true_theta": given["emiAng"][:, 0],
        "true_phi": given["emiAng"][:, 1],
        "true_energy": given["energyTruth"],
        **{f"true_{axis}": given["uvwTruth"][:, k] for k, axis in enumerate("uvw")},
        **{f"{axis}_vtx": given["xyzVTX"][:, k] for k, axis in enumerate("xyz")},
    }
    for name, values in pairs.items():
        np.testing.assert_allclose(table[name], values, rtol=1e-5, atol=1e-4, err_msg=name)
    flight = np.linalg.norm(given["xyzTruth"] - given["xyzVTX"], axis=1) / LIGHT
    np.testing.assert_allclose(table["true_timing"], given["timeTruth"] + flight, atol=2e-4)
    predicted = np.stack([table[f"pred_e{axis}"] for axis in "xyz"], 1).astype("f8")
    np.testing.assert_allclose(np.linalg.norm(predicted, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.cos(np.radians(table["pred_theta"])), predicted[:, 2], atol=1e-6)
    phi = np.degrees(np.arctan2(predicted[:, 1], -predicted[:, 0]))
    np.testing.assert_allclose(table["pred_phi"], phi, atol=1e-4)
    cosine = (predicted * given["emiVec"]).sum(1)
    np.testing.assert_allclose(table["opening_angle"], np.degrees(np.arccos(cosine)), atol=1e-3)


def test_the_true_time_is_the_one_that_was_trained_on(paths: list[Path], tmp_path: Path) -> None:
    emission = Reconstructor(small_task(timing_reference="vertex"))
    table, _ = run(emission, paths[:1], tmp_path / "out.root")
    given = events(COUNTS[0], 0)
    np.testing.assert_allclose(table["true_timing"], given["timeTruth"], rtol=1e-7)


def test_uncertainties_are_calibrated(
    reconstructor: Reconstructor, paths: list[Path], tmp_path: Path
) -> None:
    table, _ = run(reconstructor, paths[:1], tmp_path / "out.root")
    task = small_task()
    for name in task.calibrated:
        getattr(task.temperature, name).fill_(1.0)
    raw, _ = run(Reconstructor(task), paths[:1], tmp_path / "raw.root")
    for place, name in enumerate(("u", "v", "w", "energy", "timing", "direction")):
        ratio = table[f"sig_{name}"] / raw[f"sig_{name}"]  # as checkpoints.py calibrates
        np.testing.assert_allclose(ratio, 0.5 + place, rtol=1e-5)


def test_columns_are_those_of_the_networks_tasks(paths: list[Path], tmp_path: Path) -> None:
    energy = XECv2(("energy",), (), **SMALL)  # type: ignore[arg-type]
    table, _ = run(Reconstructor(small_task(energy)), paths[:1], tmp_path / "energy.root")
    vertex = ["x_vtx", "y_vtx", "z_vtx"]
    assert list(table) == ["run_id", "event_id", "pred_energy", "true_energy", *vertex]
    older = XECv1(("angle", "n_gamma"), encoder_dim=32, num_fusion_layers=1)
    table, _ = run(Reconstructor(small_task(older)), paths[:1], tmp_path / "angle.root")
    gammas = ["pred_n_gamma", "true_n_gamma"]
    assert list(table) == [*NAMES[:10], *gammas, *vertex]
    assert table["true_n_gamma"].tolist() == events(COUNTS[0], 0)["nGamma"].tolist()
    assert set(table["pred_n_gamma"]) <= {0, 1, 2, 3, 4}
    spread = XECv1(("angle",), ("angle",), encoder_dim=32, num_fusion_layers=1)
    table, _ = run(Reconstructor(small_task(spread)), paths[:1], tmp_path / "spread.root")
    assert list(table) == [*NAMES[:10], "sig_theta", "sig_phi", *vertex]


def test_unknown_truths_are_nan(reconstructor: Reconstructor, tmp_path: Path) -> None:
    every = events(6)
    full = write_file(tmp_path / "full.root", every)
    bare = write_file(tmp_path / "bare.root", without(every, *TRUTHS, "nGamma"))
    table, summary = run(reconstructor, [bare, full], tmp_path / "out.root")
    for name, values in table.items():
        known = name.startswith(("pred_", "sig_")) or name.endswith("_id")
        assert np.isnan(values[:6]).all() != known, name
        assert not np.isnan(values[6:]).any(), name
    assert summary.counts["unknown"] == 0


def test_one_missing_end_of_the_flight_leaves_the_true_time_open(
    reconstructor: Reconstructor, tmp_path: Path
) -> None:
    path = write_file(tmp_path / "in.root", without(events(4), "xyzVTX"))
    table, _ = run(reconstructor, [path], tmp_path / "out.root")
    assert np.isnan(table["true_timing"]).all()
    assert np.isnan(table["x_vtx"]).all()
    assert not np.isnan(table["true_energy"]).any()


def test_conventional_results_are_there_where_files_have_them(
    reconstructor: Reconstructor, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    reco = {
        "energyReco": rng.uniform(0.01, 0.05, 6).astype("f4"),
        "uvwRecoFI": rng.normal(size=(6, 3)).astype("f4"),
    }
    with_reco = write_file(tmp_path / "b.root", {**events(6), **reco})
    plain = write_file(tmp_path / "a.root", events(4))
    table, _ = run(reconstructor, [plain, with_reco], tmp_path / "out.root")
    assert list(table)[-4:] == ["reco_energy", "reco_u", "reco_v", "reco_w"]
    assert np.isnan(table["reco_energy"][:4]).all()
    assert table["reco_energy"][4:].tolist() == reco["energyReco"].tolist()
    for place, axis in enumerate("uvw"):
        assert np.isnan(table[f"reco_{axis}"][:4]).all()
        assert table[f"reco_{axis}"][4:].tolist() == reco["uvwRecoFI"][:, place].tolist()
    timed = write_file(tmp_path / "c.root", {**events(3), "timeReco": np.ones(3, "f4")})
    table, _ = run(reconstructor, [timed], tmp_path / "timed.root")
    assert [name for name in table if name.startswith("reco")] == ["reco_timing"]


def test_units_of_the_files_are_converted(reconstructor: Reconstructor, tmp_path: Path) -> None:
    every = events(4)
    path = write_file(tmp_path / "in.root", every | {"energyTruth": 1000 * every["energyTruth"]})
    table, _ = run(reconstructor, [path], tmp_path / "out.root", units=Units(energy=1e-3))
    np.testing.assert_allclose(table["true_energy"], every["energyTruth"], rtol=1e-6)


def test_numbers_of_runs_and_events_are_exact(reconstructor: Reconstructor, tmp_path: Path) -> None:
    numbers = [2**31 - 1, 16777217, 5], [2**40 + 1, -(2**40), 7]  # no float32 has most of them
    for name, events_ in zip("ab", numbers, strict=True):
        ids = {"event": np.array(events_), "run": np.full(3, 2**31 - 1, "i4")}
        write_file(tmp_path / f"{name}.root", events(3) | ids)
    table, _ = run(reconstructor, [tmp_path / "a.root"], tmp_path / "narrow.root")
    assert table["event_id"].dtype == np.int32
    assert table["event_id"].tolist() == numbers[0]
    table, _ = run(reconstructor, [tmp_path / f"{n}.root" for n in "ab"], tmp_path / "wide.root")
    assert (table["run_id"].dtype, table["event_id"].dtype) == (np.int32, np.int64)
    assert table["event_id"].tolist() == [*numbers[0], *numbers[1]]
    nameless = write_file(tmp_path / "c.root", without(events(2), "run", "event"))
    table, _ = run(reconstructor, [nameless], tmp_path / "nameless.root")
    assert table["run_id"].tolist() == [-1, -1]


# dead and invalid channels


def test_dead_channels_are_as_if_the_file_had_no_values_there(
    reconstructor: Reconstructor, tmp_path: Path
) -> None:
    every, dead = events(6), [5, 2040, 2041, 4500]
    path = write_file(tmp_path / "in.root", every)
    for name in ("npho", "relative_time"):
        every[name][:, dead] = DEAD
    marked = write_file(tmp_path / "marked.root", every)
    listed = Reconstructor(reconstructor.task, dead)
    plain, _ = run(reconstructor, [path], tmp_path / "plain.root")
    table, _ = run(listed, [path], tmp_path / "listed.root")
    expected, _ = run(reconstructor, [marked], tmp_path / "expected.root")
    assert same(table, expected)
    assert not same(table, plain)


def test_dead_channels_have_neither_light_nor_time(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, seen = small_task(), {}
    columns = task.columns

    def spy(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        seen.update(batch)
        return columns(batch)

    monkeypatch.setattr(task, "columns", spy)
    (batch, *_) = batches(paths[0])
    Reconstructor(task, [3, 4759]).columns(batch)
    for name in ("npho", "relative_time"):
        changed = (seen[name] != batch[name]).nonzero()[:, 1].unique()
        assert changed.tolist() == [3, 4759]
        assert (seen[name][:, [3, 4759]] == DEAD).all()


def test_a_batch_is_not_changed(reconstructor: Reconstructor, paths: list[Path]) -> None:
    (batch, *_) = batches(paths[0])
    before = {name: values.clone() for name, values in batch.items()}
    Reconstructor(reconstructor.task, [3]).columns(batch)
    assert all(torch.equal(batch[name], before[name]) for name in before)


def test_what_is_invalid_is_counted(reconstructor: Reconstructor, tmp_path: Path) -> None:
    every = events(8)
    every["npho"][2, 30] = np.nan
    every["relative_time"][3, 31] = np.inf
    every["time_min_used"][7] = DEAD  # so that no time of that event is known
    path = write_file(tmp_path / "in.root", every)
    table, summary = run(reconstructor, [path], tmp_path / "out.root")
    # root_files.py has one dead sensor in every event
    assert summary.counts == {"events": 8, "invalid": 9, "infinite": 2, "unknown": 1}
    assert np.flatnonzero(np.isnan(table["pred_timing"])).tolist() == [7]
    _, summary = run(reconstructor, [path], tmp_path / "few.root", events=2)
    assert summary.counts == {"events": 2, "invalid": 2, "infinite": 0, "unknown": 0}


def test_a_dark_face_gives_finite_results(reconstructor: Reconstructor, tmp_path: Path) -> None:
    every = events(3)
    every["npho"][:, :4092] = every["relative_time"][:, :4092] = DEAD
    path = write_file(tmp_path / "in.root", every)
    _, summary = run(reconstructor, [path], tmp_path / "out.root")
    assert summary.counts["unknown"] == 0
    assert summary.counts["invalid"] == 3 * 4092


def test_relative_counts_need_a_network_that_takes_them(tmp_path: Path) -> None:
    every = renamed(without(events(3), "npho_max_used"), npho="relative_npho")
    path = write_file(tmp_path / "in.root", every)
    needs_photons = Reconstructor(small_task())
    with pytest.raises(ValueError, match="known only relative to the largest one; the network has"):
        run(needs_photons, [path], tmp_path / "out.root")
    net = XECv2(("uvwFI",), (), {"npho_threshold": 0.0}, **SMALL)  # type: ignore[arg-type]
    table, _ = run(Reconstructor(small_task(net)), [path], tmp_path / "out.root")
    assert len(table["pred_u"]) == 3


# files and events


@pytest.mark.parametrize(("limit", "counts"), [(4, (4, 0)), (13, (13, 0)), (16, (13, 3))])
def test_only_the_first_events_are_used(
    reconstructor: Reconstructor,
    paths: list[Path],
    tmp_path: Path,
    limit: int,
    counts: tuple[int, int],
) -> None:
    table, summary = run(reconstructor, paths, tmp_path / "out.root", events=limit)
    whole, _ = run(reconstructor, paths, tmp_path / "whole.root")
    assert table["run_id"].tolist() == [0] * counts[0] + [1] * counts[1]
    assert summary.files == sum(count > 0 for count in counts)
    for name, values in table.items():
        np.testing.assert_allclose(values, whole[name][:limit], rtol=1e-4, atol=1e-4)


def test_all_formats_hold_the_same_numbers(
    reconstructor: Reconstructor, paths: list[Path], tmp_path: Path
) -> None:
    table, _ = run(reconstructor, paths, tmp_path / "out.root")
    for suffix in (".csv", ".parquet"):
        other, _ = run(reconstructor, paths, tmp_path / f"out{suffix}")
        assert list(other) == list(table)
        for name in table:
            assert np.array_equal(other[name].astype(table[name].dtype), table[name]), name
    infer(reconstructor, paths, tmp_path / "out.dat", format="parquet")
    (tmp_path / "out.dat").rename(tmp_path / "named.parquet")
    assert len(read(tmp_path / "named.parquet")["run_id"]) == sum(COUNTS)


def test_rows_are_written_as_they_come(
    reconstructor: Reconstructor,
    paths: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No more rows than a batch are held for the parts, and than `ROWS` for the table."""
    written: list[tuple[str, int]] = []

    class Spy(EventWriter):
        def write(self, rows: Mapping[str, Any]) -> None:
            written.append((self.path.name, len(rows["run_id"])))
            super().write(rows)

    monkeypatch.setattr(module, "EventWriter", Spy)
    monkeypatch.setattr(module, "ROWS", 4)
    table, _ = run(reconstructor, paths, tmp_path / "out.root")
    own = [rows for name, rows in written if name == "out.root"]
    parts = [rows for name, rows in written if name != "out.root"]
    assert own == [4, 4, 4, 1, 4, 4, 1]
    assert parts == [5, 5, 3, 5, 4]
    monkeypatch.undo()
    whole, _ = run(reconstructor, paths, tmp_path / "whole.root")
    assert same(table, whole)


def test_progress_and_latency_are_of_what_this_run_did(
    reconstructor: Reconstructor, paths: list[Path], tmp_path: Path
) -> None:
    told: list[Tally] = []
    summary = infer(
        reconstructor,
        paths,
        tmp_path / "out.root",
        streaming=Streaming(batch_size=BATCH),
        progress=told.append,
    )
    assert [one.finished for one in told] == [5, 10, 13, 18, 22]
    assert {(one.total, one.skipped) for one in told} == {(22, 0)}
    assert (summary.made, summary.files, summary.resumed) == (22, 2, 0)
    assert len(summary.latency) == 5
    assert 0 < sum(summary.latency) < 1000 * summary.seconds


# stops and other runs


class Stop(Exception):
    """What ends a run in a test."""


def stopping(reconstructor: Reconstructor, batch: int) -> Reconstructor:
    """The same network, which stops before a batch."""
    left = iter(range(batch))

    class Stopping(Reconstructor):
        def columns(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
            if next(left, None) is None:
                raise Stop
            return super().columns(batch)

    return Stopping(reconstructor.task, reconstructor.dead.tolist())


@pytest.mark.parametrize("suffix", [".root", ".csv", ".parquet"])
def test_a_stopped_run_goes_on_after_the_last_whole_file(
    reconstructor: Reconstructor, paths: list[Path], tmp_path: Path, suffix: str
) -> None:
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    expected, _ = run(reconstructor, paths, whole)
    with pytest.raises(Stop):  # in the middle of the second file
        run(stopping(reconstructor, 4), paths, out)
    assert not out.exists()
    table, summary = run(stopping(reconstructor, 2), paths, out)  # two batches are left
    assert same(table, expected)
    if suffix == ".csv":
        assert out.read_bytes() == whole.read_bytes()
    assert (summary.files, summary.resumed, summary.made) == (2, 1, COUNTS[1])
    assert summary.counts["events"] == sum(COUNTS)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["data", out.name, whole.name]


def test_all_files_may_be_finished(
    reconstructor: Reconstructor, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.root"

    def stop(*words: object) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(module, "_join", stop)
        with pytest.raises(Stop):
            run(reconstructor, paths, out)
    table, summary = run(stopping(reconstructor, 0), paths, out)
    assert len(table["run_id"]) == sum(COUNTS)
    assert (summary.resumed, summary.made, len(summary.latency)) == (2, 0, 0)


def test_parts_of_another_network_or_setting_are_refused(
    reconstructor: Reconstructor, paths: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.root"
    with pytest.raises(Stop):
        run(stopping(reconstructor, 4), paths, out)
    others: list[tuple[Reconstructor, dict[str, Any], str]] = [
        (Reconstructor(small_task(seed=1)), {}, "other checkpoint"),
        (Reconstructor(small_task(timing_reference="vertex")), {}, "other checkpoint"),
        (Reconstructor(reconstructor.task, [17]), {}, "other dead channels"),
        (reconstructor, {"units": Units(energy=1e-3)}, "units .* instead of"),
    ]
    for other, settings, words in others:
        with pytest.raises(ValueError, match=f"out.root was begun with {words}") as caught:
            run(other, paths, out, **settings)
        assert "\n" not in str(caught.value)
    table, summary = run(reconstructor, paths, out)
    assert summary.resumed == 1
    expected, _ = run(reconstructor, paths, tmp_path / "whole.root")
    assert same(table, expected)


def test_a_calibration_belongs_to_the_checkpoint() -> None:
    task = small_task()
    before = Reconstructor(task).digest
    assert Reconstructor(small_task()).digest == before
    task.temperature.energy.fill_(1.5)
    assert Reconstructor(task).digest != before


def test_changed_and_new_files_are_read_and_the_others_kept(
    reconstructor: Reconstructor, paths: list[Path], tmp_path: Path
) -> None:
    more = make_files(tmp_path / "data", *COUNTS, 4)
    out = tmp_path / "out.root"
    with pytest.raises(Stop):
        run(stopping(reconstructor, 5), [*paths, more[2]], out)
    write_file(paths[1], events(7, seed=9, run=5))
    os.utime(paths[1], ns=(1, 1))
    table, summary = run(reconstructor, more, out)
    assert (summary.resumed, summary.made) == (1, 11)
    assert table["run_id"].tolist() == [0] * COUNTS[0] + [5] * 7 + [2] * 4


def test_a_run_without_a_finished_file_leaves_nothing(
    reconstructor: Reconstructor, paths: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(Stop):
        run(stopping(reconstructor, 1), paths, tmp_path / "out.root")
    assert [one.name for one in tmp_path.iterdir()] == ["data"]


def test_two_runs_do_not_share_a_table(
    reconstructor: Reconstructor, paths: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.root"

    class Nested(Reconstructor):
        def columns(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
            with pytest.raises(ValueError, match="another run is making"):
                run(reconstructor, paths, out)
            return super().columns(batch)

    table, _ = run(Nested(reconstructor.task), paths[:1], out)
    assert len(table["run_id"]) == COUNTS[0]


# files that cannot be used


def test_a_bad_file_ends_the_run_before_any_event_unless_it_is_to_be_left_out(
    reconstructor: Reconstructor, paths: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.root"
    cut_short(paths[1])
    with pytest.raises(BadFileError, match=r"1.root is truncated"):
        run(stopping(reconstructor, 0), paths, out)
    with pytest.warns(UserWarning, match="1 of 2 files are left out"):
        table, summary = run(reconstructor, paths, out, on_bad_file="skip")
    assert table["run_id"].tolist() == [0] * COUNTS[0]
    assert summary.files == len(summary.bad) == 1
    assert "1.root is truncated" in summary.bad[0]


def test_a_file_that_is_damaged_inside_is_left_out_whole(
    reconstructor: Reconstructor, paths: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.root"
    damage(paths[0])
    with pytest.raises(BadFileError, match=r"0\.root cannot be read from entry 0"):
        run(reconstructor, paths, out)
    table, summary = run(reconstructor, paths, out, on_bad_file="skip")
    assert table["run_id"].tolist() == [1] * COUNTS[1]
    assert (summary.files, summary.counts["events"]) == (1, COUNTS[1])
    assert "0.root cannot be read" in summary.bad[0]


@pytest.mark.filterwarnings("ignore:.*files are left out")
def test_without_any_usable_file_there_is_no_table(
    reconstructor: Reconstructor, tmp_path: Path
) -> None:
    empty = write_file(tmp_path / "empty.root", events(0))
    out = tmp_path / "out.root"
    with pytest.raises(BadFileError, match=r"the tree 'tree' of .*empty\.root has no entries"):
        run(reconstructor, [empty], out)
    with pytest.raises(ValueError, match="none of the 1 files can be used: the tree 'tree' of"):
        run(reconstructor, [empty], out, on_bad_file="skip")
    assert [one.name for one in tmp_path.iterdir()] == ["empty.root"]


@pytest.mark.parametrize("name", ["batch_size", "events"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0; give at least 1"):
        Streaming(**{name: 0})  # type: ignore[arg-type]
