import multiprocessing
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from root_files import DEAD, damage, events, make_files, without, write_file

from sciml.xec.data import source as source_module
from sciml.xec.data.branches import BadFileError
from sciml.xec.data.cuts import NO_CUTS, Cuts
from sciml.xec.data.index import Indexing, build_index
from sciml.xec.data.source import COUNTERS, OVERSIZE, RootSource, cut_entries


def open_source(
    paths: list[Path], chunksize: int = 10, *names: str, cuts: Cuts = NO_CUTS, threads: int = 1
) -> RootSource:
    cache = paths[0].parent.parent / "cache"
    files = build_index(paths, Indexing(cuts=cuts, cache=cache)).files
    return RootSource(files, names, chunksize, threads=threads)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return make_files(tmp_path / "data", 25, 12)


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=30),
    st.integers(1, 20),
)
def test_chunks_cover_the_file_and_end_between_baskets(baskets: list[int], chunksize: int) -> None:
    edges = np.cumsum([0, *baskets])
    chunks = list(cut_entries(edges, chunksize))
    assert [start for start, _ in chunks] == [0, *(stop for _, stop in chunks[:-1])]
    assert chunks[-1][1] == edges[-1]
    assert all(0 < stop - start <= OVERSIZE * chunksize for start, stop in chunks)
    for start, stop in chunks:
        if max(baskets) <= OVERSIZE * chunksize:
            assert stop in edges
        # whole baskets as many as fit, and one at least
        if stop in edges and start in edges and stop - start > chunksize:
            assert not [edge for edge in edges if start < edge < stop]


def test_very_large_baskets_are_cut_evenly() -> None:
    assert list(cut_entries(np.array([0, 85]), 5)) == [(0, 28), (28, 56), (56, 85)]
    assert list(cut_entries(np.array([0, 40, 45]), 5)) == [(0, 40), (40, 45)]


def test_chunks_of_several_files(paths: list[Path]) -> None:
    source = open_source(paths, 10)
    assert source.chunk_rows == [10, 10, 5, 10, 2]
    assert open_source(paths, 20).chunk_rows == [20, 5, 12]
    rows = [source.read(chunk) for chunk in range(5)]
    number = np.concatenate([part["number"] for part in rows])
    assert number.tolist() == list(range(37))
    assert number.dtype == np.int64
    assert np.concatenate([part["run"] for part in rows]).tolist() == [0] * 25 + [1] * 12
    expected = np.concatenate([events(25, 0)["npho"], events(12, 1)["npho"]])
    np.testing.assert_array_equal(np.concatenate([part["npho"] for part in rows]), expected)
    source.close()


def test_only_named_truths_are_read(paths: list[Path]) -> None:
    always = {"npho", "relative_time", "time_min", "run", "event", "number", COUNTERS}
    assert open_source(paths).read(0).keys() == always
    rows = open_source(paths, 10, "energy", "uvw").read(3)
    assert rows.keys() == always | {"energy", "uvw"}
    np.testing.assert_array_equal(rows["energy"], events(12, 1)["energyTruth"][:10])
    reals = {values.dtype.name for name, values in rows.items() if name not in always}
    assert reals == {"float32"}


def test_lent_rows_share_memory_and_read_ones_do_not(paths: list[Path]) -> None:
    source = open_source(paths)
    first, second = source.read(0), source.read(1)
    lent, again = source.borrow(0), source.borrow(1)
    assert not np.shares_memory(first["npho"], second["npho"])
    assert np.shares_memory(lent["npho"], again["npho"])
    for name in set(first) - {COUNTERS}:
        np.testing.assert_array_equal(again[name], second[name])


def test_cut_events_are_left_out(paths: list[Path]) -> None:
    source = open_source(paths, 10, "uvw", cuts=Cuts(fiducial=True))
    kept = [file.kept for file in source.files]
    assert sum(source.chunk_rows) == sum(int(mask.sum()) for mask in kept if mask is not None)
    number = []
    for chunk, count in enumerate(source.chunk_rows):
        rows = source.read(chunk)
        assert {len(values) for values in rows.values()} == {count}
        assert (np.abs(rows["uvw"][:, 0]) < 23.9).all()
        number += rows["number"].tolist()
    expected = np.flatnonzero(np.concatenate([mask for mask in kept if mask is not None]))
    assert number == expected.tolist()  # places in the files, not among the kept
    for place in number[:3]:
        file, entry = source.locate(place)
        assert file.path == paths[0]
        assert entry == place
    assert source.locate(26)[1] == 1


def test_chunks_without_events_are_left_out(tmp_path: Path) -> None:
    branches = events(40)
    branches["uvwTruth"][:] = 0
    branches["uvwTruth"][10:30] = 99
    path = write_file(tmp_path / "data/a.root", branches)
    source = open_source([path], 10, cuts=Cuts(fiducial=True))
    assert source.chunk_rows == [10, 10]
    assert source.read(1)["number"].tolist() == list(range(30, 40))
    branches["uvwTruth"][:] = 99
    nothing = write_file(tmp_path / "data/b.root", branches)
    assert open_source([nothing], 10, cuts=Cuts(fiducial=True)).chunk_rows == []


@pytest.mark.parametrize(("rows", "expected"), [(0, [10, 10, 5]), (3, [10, 10, 2]), (6, [10, 9])])
def test_last_events_can_be_left_out(tmp_path: Path, rows: int, expected: list[int]) -> None:
    source = open_source(make_files(tmp_path / "data", 25)).without_last(rows)
    assert source.chunk_rows == expected
    found = [source.read(chunk)["number"] for chunk in range(len(expected))]
    assert np.concatenate(found).tolist() == list(range(25 - rows))


def test_invalid_and_infinite_readings_are_counted(tmp_path: Path) -> None:
    branches = events(20)  # with one dead channel
    branches["npho"][3, 100:103] = [np.nan, np.inf, -np.inf]
    branches["relative_time"][15, 7] = np.nan
    path = write_file(tmp_path / "data/a.root", branches)
    source = open_source([path], 10)
    first, second = source.read(0), source.read(1)
    assert (first["npho"][3, 100:103] == np.float32(DEAD)).all()
    assert second["relative_time"][5, 7] == np.float32(DEAD)
    for rows in (first, second):
        assert all(np.isfinite(rows[name]).all() for name in ("npho", "relative_time"))
        assert rows["npho"].dtype == rows["relative_time"].dtype == np.float32
    assert first[COUNTERS][:, :2].sum(0).tolist() == [13, 3]
    assert second[COUNTERS][:, :2].sum(0).tolist() == [10, 1]
    assert first[COUNTERS][0, 2] > 0


def test_what_is_not_stored_is_marked_as_unknown(tmp_path: Path) -> None:
    branches = without(events(4), "run", "event", "time_min_used")
    rows = open_source([write_file(tmp_path / "data/a.root", branches)]).read(0)
    assert rows["run"].tolist() == rows["event"].tolist() == [-1] * 4
    assert rows["run"].dtype == np.int64
    assert np.isnan(rows["time_min"]).all()
    assert rows["time_min"].dtype == np.float32


def test_large_numbers_of_runs_and_events_are_exact(tmp_path: Path) -> None:
    numbers = np.array([2**53 + 1, 16777217], dtype="i8")  # beyond double and single precision
    branches = events(2) | {"run": numbers, "event": numbers[::-1].copy()}
    rows = open_source([write_file(tmp_path / "data/a.root", branches)]).read(0)
    assert rows["run"].tolist() == numbers.tolist()
    assert rows["event"].tolist() == numbers[::-1].tolist()


def test_threads_decompress_the_same(paths: list[Path]) -> None:
    alone, helped = open_source(paths, 20), open_source(paths, 20, threads=2)
    np.testing.assert_array_equal(alone.read(0)["npho"], helped.read(0)["npho"])


def test_a_file_that_changes_between_chunks_is_told(paths: list[Path]) -> None:
    source = open_source(paths)
    source.read(0)
    write_file(paths[0], events(11))
    with pytest.raises(BadFileError, match=r"0.root has changed since its events were counted"):
        source.read(1)
    paths[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"0.root is missing"):
        source.read(1)


def test_a_damaged_basket_is_told(tmp_path: Path) -> None:
    path = damage(make_files(tmp_path / "data", 20)[0])
    with pytest.raises(BadFileError, match=r"0.root cannot be read from entry 0 to 10"):
        open_source([path]).read(0)


def test_files_that_were_open_longest_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "OPEN", 2)
    source = open_source(make_files(tmp_path / "data", 3, 3, 3, 3))
    handles = Path("/proc/self/fd")
    before = len(list(handles.iterdir())) if handles.exists() else 0
    for chunk in (0, 1, 2, 3, 0, 2):
        assert source.read(chunk)["run"][0] == chunk
    if handles.exists():
        assert len(list(handles.iterdir())) <= before + 2
    source.close()
    if handles.exists():
        assert len(list(handles.iterdir())) <= before


def _numbers(source: RootSource, chunk: int, results: Any = None) -> list[int]:
    found = [int(source.read(chunk)["npho"][0, 0]) for _ in range(20)]
    if results is not None:
        results.put(found)
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_opens_its_own_files(paths: list[Path]) -> None:
    source = open_source(paths, 10)
    source.read(0)  # open here, with a position in the file that a fork would share
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    children = [context.Process(target=_numbers, args=(source, one, results)) for one in (0, 1)]
    for child in children:
        child.start()
    found = [_numbers(source, 2), *(results.get(timeout=60) for _ in children)]
    for child in children:
        child.join()
    results.close()
    assert found[0] == [20] * 20
    assert sorted(found[1:]) == [[0] * 20, [10] * 20]


def test_a_source_can_be_sent_to_another_process(paths: list[Path]) -> None:
    source = open_source(paths)
    source.borrow(0)
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.read(3)["npho"], source.read(3)["npho"])
