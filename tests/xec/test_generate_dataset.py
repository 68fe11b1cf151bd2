from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import uproot

from sciml.core.parallel import Tally, derive_seed
from sciml.xec.generate import dataset
from sciml.xec.generate.dataset import Plan, Summary, generate_dataset
from sciml.xec.generate.events import BRANCHES, Arrays, simulate
from sciml.xec.generate.files import BASKET, Job, write_file
from sciml.xec.generate.settings import Beam, Detector, Settings

SETTINGS = Settings(Beam(pileup=0.2), Detector(dead=(5, 4500)))
PLAN = Plan(events=3, files=3, seed=5)


def run(out: Path, **changes: object) -> Summary:
    options = {"settings": SETTINGS, "plan": PLAN, "runner": "serial"} | changes
    return generate_dataset(out, **options)  # type: ignore[arg-type]


def read(path: Path, tree: str = "tree") -> Arrays:
    with uproot.open(path) as file:
        arrays: Arrays = file[tree].arrays(library="np")
    return arrays


def assert_same(one: Arrays, other: Arrays) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], name)


def text(values: np.ndarray) -> str:
    return values.astype(np.uint8).tobytes().rstrip(b"\0").decode()


class Stop(BaseException):
    """What ends a run from outside."""


def stop_after(files: int) -> object:
    def progress(tally: Tally) -> None:
        if tally.finished == files:
            raise Stop

    return progress


def test_a_set_is_the_simulated_events_of_each_file(tmp_path: Path) -> None:
    summary = run(tmp_path / "set")
    names = ["events_0000.root", "events_0001.root", "events_0002.root"]
    assert [path.name for path in summary.paths] == names
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == names
    assert (summary.events, summary.resumed, summary.runs) == (3, 0, [60000, 60001, 60002])
    for name, number in zip(names, summary.runs, strict=True):
        arrays = simulate(3, SETTINGS, derive_seed(5, name), run=number)
        assert_same(read(tmp_path / "set" / name), arrays)


def test_branches_have_the_types_of_the_supplied_files(tmp_path: Path) -> None:
    (path, *_) = run(tmp_path, plan=Plan(events=2)).paths
    short = {"f4": "float", "i4": "int32_t", "i2": "int16_t"}
    with uproot.open(path) as file:
        found = {branch.name: branch.typename for branch in file["tree"].branches}
        assert file.file.compression.name == "ZSTD"
    assert found == {
        name: short[kind] + "".join(f"[{size}]" for size in shape)
        for name, (kind, shape) in BRANCHES.items()
    }


def test_settings_and_seeds_lie_beside_the_events(tmp_path: Path) -> None:
    settings = Settings(Beam("target", "flat", 0.25), Detector(3, 0.1, 2.0, (5, 4500)))
    paths = run(tmp_path, settings=settings).paths
    found = read(paths[1], "generator")
    assert {len(values) for values in found.values()} == {1}
    about = {name: values[0] for name, values in found.items()}
    assert text(about["generator"]) == f"sciml {version('sciml')}"
    assert (text(about["vertex"]), text(about["spectrum"])) == ("target", "flat")
    assert (about["pileup"], about["miscal"], about["noise"]) == (0.25, 0.1, 2.0)
    assert (about["calib_seed"], about["seed"], about["file"], about["events"]) == (3, 5, 1, 3)
    assert about["run"] == 60001
    assert about["file_seed"] == derive_seed(5, "events_0001.root")
    assert np.flatnonzero(about["dead"]).tolist() == [5, 4500]


def test_files_do_not_depend_on_workers_and_their_number(tmp_path: Path) -> None:
    one = run(tmp_path / "one")
    two = run(tmp_path / "two", plan=Plan(3, 2, 5), runner="processes", workers=2)
    assert len(two.paths) == 2
    for first, second in zip(one.paths[:2], two.paths, strict=True):
        assert_same(read(first), read(second))


def test_files_begin_with_the_same_events_whatever_follows(tmp_path: Path) -> None:
    short, long = (
        run(tmp_path / str(events), plan=Plan(events, 1, 5)).paths[0] for events in (2, 4)
    )
    first = {name: values[:2] for name, values in read(long).items()}
    assert_same(read(short), first)


def test_baskets_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert BASKET == 200
    monkeypatch.setattr("sciml.xec.generate.files.BASKET", 2)
    path = tmp_path / "events.root"
    write_file(Job(5, SETTINGS, 0, 1, 0), path, 11)
    assert_same(read(path), simulate(5, SETTINGS, 11, run=1))
    with uproot.open(path) as file:
        assert file["tree/npho"].num_baskets == 3


@pytest.mark.parametrize("compression", ["zstd", "lz4", "zlib", "lzma", "none"])
def test_compression_is_what_was_asked_for(tmp_path: Path, compression: str) -> None:
    (path,) = run(tmp_path, plan=Plan(2, 1, 0, compression)).paths  # type: ignore[arg-type]
    with uproot.open(path) as file:
        used = file.file.compression
        assert (used.name.lower() if used else "none") == compression
        assert file["tree"].num_entries == 2


def test_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, out = run(tmp_path / "whole"), tmp_path / "set"
    with pytest.raises(Stop):
        run(out, progress=stop_after(2))
    assert not list(out.glob("*.root"))
    made = {path.name: path.stat().st_mtime_ns for path in (out / "events.parts").glob("*.root")}
    assert len(made) == 2
    summary = run(out)
    assert summary.resumed == 2
    assert "2 of the files were there from an earlier run" in str(summary)
    for path, wanted in zip(summary.paths, whole.paths, strict=True):
        assert_same(read(path), read(wanted))
        assert made.get(path.name) in {None, path.stat().st_mtime_ns}
    assert not (out / "events.parts").exists()


def test_run_stopped_while_files_were_moved_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(folder: Path) -> None:
        raise Stop

    out = tmp_path / "set"
    with monkeypatch.context() as patch:
        patch.setattr(dataset.shutil, "rmtree", stop)
        with pytest.raises(Stop):
            run(out)
    (out / "events_0002.root").replace(out / "events.parts/events_0002.root")
    assert run(out).resumed == 1
    assert len(list(out.iterdir())) == 3


def test_other_settings_do_not_go_on(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(tmp_path, progress=stop_after(1))
    with pytest.raises(ValueError, match="was begun with seed 5 instead of 6; repeat"):
        run(tmp_path, plan=Plan(3, 3, 6))
    with pytest.raises(ValueError, match=r"was begun with pileup 0\.2 instead of 0\.0"):
        run(tmp_path, settings=Settings())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    kept = tmp_path / "events_0001.root"
    kept.write_text("mine")
    with pytest.raises(ValueError, match=r"events_0001\.root exists; give another --out"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["events_0001.root"]
    assert kept.read_text() == "mine"
    with pytest.raises(ValueError, match="is a file; give a folder as --out"):
        run(kept)


def test_other_files_may_lie_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    run(tmp_path, plan=Plan(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events_0000.root", "notes.txt"]


def test_failed_files_are_told_and_the_others_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(job: Job, path: Path, seed: int) -> None:
        if job.number == 1:
            raise OSError("no space left")
        write_file(job, path, seed)

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "write_file", full)
        words = "1 files could not be made, the first, events_0001.root, with 'OSError: no space"
        with pytest.raises(ValueError, match=words) as caught:
            run(tmp_path)
    assert "\n" not in str(caught.value)
    assert run(tmp_path).resumed == 2


def test_runs_of_other_seeds_are_others() -> None:
    runs = [Plan(files=10_000, seed=seed).runs for seed in (0, 1, 199_999)]
    assert len(set().union(*runs)) == 30_000
    assert max(runs[-1]) < 2**31
    assert min(runs[0]) > 3001  # largest run of the example files
