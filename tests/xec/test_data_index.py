import os
import time
from pathlib import Path

import numpy as np
import pytest
from root_files import DEAD, cut_short, events, make_files, renamed, without, write_file

from sciml.xec.data import index as indexing_module
from sciml.xec.data.branches import BadFileError, Units
from sciml.xec.data.cuts import Cuts
from sciml.xec.data.index import FileIndex, Indexing, build_index, look_at


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return make_files(tmp_path / "data", 30, 12)


def indexed(paths: list[Path], cache: Path, **settings: object) -> list[FileIndex]:
    return build_index(paths, Indexing(cache=cache, **settings)).files  # type: ignore[arg-type]


def test_lengths_and_branches(paths: list[Path], cache: Path) -> None:
    first, second = indexed(paths, cache)
    assert (first.entries, second.entries) == (30, 12)
    assert first.edges.tolist() == [0, 10, 20, 30]
    assert first.layout["energy"] == "energyTruth"
    assert first.kept is None
    assert first.dropped == 0


def test_fiducial_cut(paths: list[Path], cache: Path) -> None:
    first = indexed(paths, cache, cuts=Cuts(fiducial=True))[0]
    u, v, w = events(30)["uvwTruth"].T
    expected = (np.abs(u) < 23.9) & (np.abs(v) < 67.9) & (w >= 0)
    assert 0 < expected.sum() < 30
    np.testing.assert_array_equal(first.kept, expected)
    assert first.dropped == 30 - expected.sum()
    deep = indexed(paths, cache, cuts=Cuts(fiducial=True, depth=20.0))[0]
    np.testing.assert_array_equal(deep.kept, expected & (w <= 20))


def test_energy_cut_knows_the_unit(tmp_path: Path, cache: Path) -> None:
    branches = events(30)
    energy = branches["energyTruth"].copy()
    branches["energyTruth"] = energy * 1000  # MeV
    branches["energyTruth"][:2] = [np.nan, DEAD]
    path = write_file(tmp_path / "data/a.root", branches)
    cuts, units = Cuts(energy=(0.02, 0.05)), Units(energy=1e-3)
    found = indexed([path], cache, cuts=cuts, units=units)[0]
    expected = (energy > 0.02) & (energy < 0.05)
    expected[:2] = False
    np.testing.assert_array_equal(found.kept, expected)
    assert indexed([path], cache, cuts=cuts)[0].kept is not None
    assert not indexed([path], cache, cuts=cuts)[0].kept.any()  # type: ignore[union-attr]


def test_cuts_read_truths_only(
    paths: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[str] = set()
    original = indexing_module.RootFile.read

    def watched(self: object, types: dict[str, object], *rest: object) -> object:
        read.update(types)
        return original(self, types, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(indexing_module.RootFile, "read", watched)
    indexed(paths, cache)
    assert not read
    indexed(paths, cache, cuts=Cuts(fiducial=True, energy=(0.0, 1.0)))
    assert read == {"uvwTruth", "energyTruth"}


def forbid_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, indexing: object) -> None:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(indexing_module, "look_at", refuse)


def test_what_was_found_is_kept(
    paths: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts = Cuts(fiducial=True)
    first = indexed(paths, cache, cuts=cuts)
    plain = indexed(paths, cache)
    forbid_looking(monkeypatch)
    again = indexed(paths, cache, cuts=cuts)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.kept, other.kept)
        np.testing.assert_array_equal(one.edges, other.edges)
        assert one.branches == other.branches
        assert one.layout == other.layout
        assert (one.path, one.size, one.modified) == (other.path, other.size, other.modified)
    assert [one.kept for one in indexed(paths, cache)] == [one.kept for one in plain] == [None] * 2
    with pytest.raises(AssertionError):
        indexed(paths, cache, cuts=Cuts(fiducial=True, depth=9.0))
    assert not list(cache.glob(".*"))  # no parts are left


def test_a_changed_file_is_looked_at_again(paths: list[Path], cache: Path) -> None:
    before = indexed(paths, cache)[0]
    before.check_unchanged()
    write_file(paths[0], events(7))
    assert indexed(paths, cache)[0].entries == 7
    with pytest.raises(BadFileError, match=r"0.root has changed since its events were counted"):
        before.check_unchanged()
    touched = indexed(paths, cache)[0]
    os.utime(paths[0], ns=(time.time_ns(), time.time_ns() + 10**9))
    with pytest.raises(BadFileError, match="has changed"):
        touched.check_unchanged()
    paths[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"0.root is missing"):
        touched.check_unchanged()


@pytest.mark.parametrize("content", [b"", b"PK\3\4 nothing", b"text"])
def test_a_spoiled_cache_is_made_anew(paths: list[Path], cache: Path, content: bytes) -> None:
    indexed(paths, cache)
    for kept in cache.iterdir():
        kept.write_bytes(content)
    assert [one.entries for one in indexed(paths, cache)] == [30, 12]
    assert {kept.read_bytes()[:2] for kept in cache.iterdir()} == {b"PK"}


def test_the_cache_is_never_beside_the_data(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    build_index(paths, Indexing())
    assert len(list((tmp_path / "home/sciml/xec").iterdir())) == 2
    assert sorted(paths[0].parent.iterdir()) == paths
    with pytest.raises(ValueError, match="data holds the data; choose another folder"):
        build_index(paths, Indexing(cache=paths[0].parent))


def test_a_folder_that_cannot_be_written_does_not_matter(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert [one.entries for one in indexed(paths, tmp_path / "file" / "cache")] == [30, 12]


def bad_files(folder: Path) -> dict[str, Path]:
    """A file for everything that can be wrong, by a word of what is said."""
    whole = events(3)
    return {
        "truncated": cut_short(write_file(folder / "cut.root", whole)),
        "has no entries": write_file(folder / "none.root", events(0)),
        "no tree 'tree'": write_file(folder / "tree.root", whole, tree="other"),
        "no branch npho": write_file(folder / "npho.root", without(whole, "npho")),
        "has 10 values": write_file(
            folder / "few.root", whole | {"npho": whole["npho"][:, :10].copy()}
        ),
        "no usable branch uvwTruth or uvwFI, which cuts.fiducial needs": write_file(
            folder / "uvw.root", renamed(whole, uvwTruth="position")
        ),
    }


def test_bad_files_end_the_run_or_are_left_out(
    paths: list[Path], tmp_path: Path, cache: Path
) -> None:
    bad = bad_files(tmp_path / "bad")
    cuts = Cuts(fiducial=True)
    for words, path in bad.items():
        with pytest.raises(BadFileError, match=words) as caught:
            look_at(path, Indexing(cuts=cuts))
        assert "\n" not in str(caught.value)
        with pytest.raises(BadFileError, match=words):
            indexed([*paths, path], cache, cuts=cuts)
    indexing = Indexing(cuts=cuts, on_bad_file="skip", cache=cache)
    with pytest.warns(UserWarning, match="6 of 8 files are left out: .*truncated"):
        found = build_index([*paths, *bad.values()], indexing)
    assert [file.path for file in found.files] == paths
    assert len(found.bad) == 6


def test_missing_branches_are_told_with_those_found(tmp_path: Path, cache: Path) -> None:
    path = write_file(tmp_path / "data/a.root", without(events(2), "energyTruth"))
    words = "no usable branch energyTruth or energy, which cuts.energy needs; its branches are npho"
    with pytest.raises(BadFileError, match=words):
        indexed([path], cache, cuts=Cuts(energy=(0.0, 1.0)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"depth": 3.0}, "set cuts.fiducial too"),
        ({"energy": (2.0, 1.0)}, "give the smaller one first"),
    ],
)
def test_cuts_that_contradict_themselves(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Cuts(**settings)  # type: ignore[arg-type]
