from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from root_files import DEAD, cut_short, damage, events, make_files, write_file
from shared import XEC, needs_xec

from sciml.xec.data.check import BranchSurvey, survey
from sciml.xec.data.cuts import Cuts
from sciml.xec.data.index import Indexing


def test_ranges_and_shares(tmp_path: Path) -> None:
    first, second = events(25, 0), events(8, 1)
    first["npho"][2, 100:103] = [np.nan, np.inf, -5]
    first["energyTruth"][3] = DEAD
    paths = [
        write_file(tmp_path / "0.root", first),
        write_file(tmp_path / "1.root", second),
    ]
    found = survey(paths, Indexing())
    assert found.events == 33
    assert found.dropped == 0
    assert not found.bad
    counts = found.branches["npho"]
    assert counts.values == 33 * 4760
    assert (counts.invalid, counts.nan, counts.infinite, counts.negative) == (33, 1, 1, 1)
    both = np.concatenate([first["npho"], second["npho"]])
    valid = both[np.isfinite(both) & (both < 9e9)].astype("f8")
    assert (counts.lowest, counts.highest) == (-5, valid.max())
    assert counts.mean == pytest.approx(valid.mean(), rel=1e-12)
    energy = found.branches["energyTruth"]
    assert (energy.values, energy.invalid) == (33, 1)
    expected = np.concatenate([np.delete(first["energyTruth"], 3), second["energyTruth"]])
    assert energy.mean == pytest.approx(expected.mean(dtype="f8"), rel=1e-12)
    assert (energy.lowest, energy.highest) == (expected.min(), expected.max())
    assert found.branches["event"].highest == 24
    assert found.branches.keys() == first.keys()


def test_nothing_valid_has_no_mean() -> None:
    found = BranchSurvey()
    found.add(np.full(3, DEAD))
    assert np.isnan(found.mean)
    assert found.invalid == 3
    assert found.lowest == np.inf


def test_dead_channels(tmp_path: Path) -> None:
    branches = events(20)  # channel 17 is dead
    branches["npho"][:, 30] = 0  # always the same
    branches["npho"][:9, 40] = DEAD  # less than half of the time
    branches["npho"][:10, 50] = np.nan
    found = survey([write_file(tmp_path / "0.root", branches)], Indexing())
    assert found.channels.dead().tolist() == [17, 30, 50]
    assert found.channels.dead(0.45).tolist() == [17, 30, 40, 50]
    assert found.channels.dead(1.0).tolist() == [17, 30]


def test_events_that_are_cut(tmp_path: Path) -> None:
    paths = make_files(tmp_path, 30)
    found = survey(paths, Indexing(cuts=Cuts(energy=(0.02, 0.05))))
    energy = events(30)["energyTruth"]
    assert found.dropped == ((energy < 0.02) | (energy > 0.05)).sum() > 0
    assert found.branches["energyTruth"].values == 30  # of all events


def test_bad_files_do_not_hide_the_others(tmp_path: Path) -> None:
    paths = make_files(tmp_path, 20, 5, 5)
    damage(paths[0])
    cut_short(paths[1])
    finished: list[int] = []
    found = survey(paths, Indexing(), finished.append)
    assert finished == [1, 2, 3]
    assert [file.path for file in found.files] == [paths[2]]
    assert len(found.bad) == 2
    assert "0.root cannot be read from entry 0 to 20" in found.bad[0]
    assert "1.root is truncated" in found.bad[1]
    assert found.events == 5


def test_branches_of_other_kinds_are_named(tmp_path: Path) -> None:
    branches = events(4)
    path = tmp_path / "a.root"
    types = {name: (values.dtype, values.shape[1:]) for name, values in branches.items()}
    with uproot.recreate(path) as file:
        file.mktree("tree", {**types, "hits": "var * float32"})
        file["tree"].extend({**branches, "hits": ak.Array([[1.0], [], [2.0, 3.0], []])})
    found = survey([path], Indexing())
    assert found.shapes["hits"].shape is None
    assert "hits" not in found.branches
    assert found.branches["npho"].values == 4 * 4760


def test_nothing_is_kept_between_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    survey(make_files(tmp_path / "data", 5), Indexing())
    assert not (tmp_path / "cache").exists()


@needs_xec
def test_shared_file() -> None:
    found = survey([XEC / "signal_000.root"], Indexing(cuts=Cuts(fiducial=True)))
    assert found.events == 700
    assert 0 < found.dropped < 350
    assert not len(found.channels.dead())  # as the README there says
    assert found.branches["nGamma"].lowest == found.branches["nGamma"].highest == 1
