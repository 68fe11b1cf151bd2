from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from root_files import cut_short, damage, events, make_files, write_file

from sciml.xec.data.branches import BadFileError, Branch
from sciml.xec.data.root import RootFile

REAL = np.dtype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_files(tmp_path, 25)[0]


def read(path: Path, name: str, start: int, stop: int, kind: Any = REAL, **more: Any) -> Any:
    file = RootFile(path)
    try:
        return file.read({name: np.dtype(kind)}, start, stop, **more)[name]
    finally:
        file.close()


def test_header(path: Path) -> None:
    file = RootFile(path)
    file.close()
    assert file.entries == 25
    assert file.edges("npho").tolist() == [0, 10, 20, 25]
    assert file.branches["npho"] == Branch((4760,), "f")
    assert file.branches["uvwTruth"] == Branch((3,), "f")
    assert file.branches["run"] == Branch((), "i")


@pytest.mark.parametrize(("start", "stop"), [(0, 25), (0, 10), (3, 17), (9, 11), (24, 25)])
def test_ranges_of_entries(path: Path, start: int, stop: int) -> None:
    expected = events(25)
    found = read(path, "npho", start, stop)
    np.testing.assert_array_equal(found, expected["npho"][start:stop])
    assert found.dtype == REAL
    assert found.dtype.isnative
    assert found.flags.c_contiguous
    whole = read(path, "event", start, stop, np.int64)
    assert whole.dtype == np.int64
    assert whole.tolist() == list(range(start, stop))


def test_doubles_and_half_open_formats_become_float32(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 8).reshape(4, 2)
    path = write_file(tmp_path / "a.root", {"double": values, "small": np.arange(4, dtype="i2")})
    np.testing.assert_array_equal(read(path, "double", 1, 4), values[1:].astype("f4"))
    assert read(path, "small", 0, 4).tolist() == [0, 1, 2, 3]


def test_memory_is_filled_again_only_when_it_is_lent(path: Path) -> None:
    file = RootFile(path)
    room: dict[str, Any] = {}
    kinds = {"npho": REAL}
    first = file.read(kinds, 0, 10, room)["npho"]
    second = file.read(kinds, 10, 20, room)["npho"]
    own = file.read(kinds, 0, 10)["npho"]
    longer = file.read(kinds, 0, 20, room)["npho"]
    file.close()
    assert np.shares_memory(first, second)
    assert not np.shares_memory(own, second)
    assert not np.shares_memory(longer, second)
    assert own[:, 0].tolist() == list(range(10))
    assert second[:, 0].tolist() == list(range(10, 20))


def test_threads_read_the_same(path: Path) -> None:
    pool = uproot.ThreadPoolExecutor(2)
    file = RootFile(path, executor=pool)
    found = file.read({"npho": REAL}, 0, 25)["npho"]
    file.close()
    pool.shutdown()
    np.testing.assert_array_equal(found, events(25)["npho"])


def test_a_colon_and_brackets_in_the_name(tmp_path: Path) -> None:
    path = write_file(tmp_path / "run:1 [a].root", {"x": np.arange(3, dtype="f4")})
    assert read(path, "x", 0, 3).tolist() == [0, 1, 2]


def test_branches_without_a_fixed_number_of_values(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        file.mktree("tree", {"x": "var * float32", "y": "f4"})
        file["tree"].extend({"x": ak.Array([[1.0, 2.0], [3.0]]), "y": np.ones(2, "f4")})
    found = RootFile(path)
    found.close()
    assert found.branches["x"].shape is None
    assert found.branches["x"].width == 0
    assert found.branches["y"].width == 1


def text(path: Path) -> Path:
    path.write_text("x" * 100)
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def gone(path: Path) -> Path:
    path.unlink()
    return path


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (gone, "0.root is missing"),
        (empty, "0.root is empty"),
        (text, "0.root is no ROOT file"),
        (lambda path: cut_short(path, 0.5), r"0.root is truncated: \d+ of \d+ bytes are there"),
        (lambda path: cut_short(path, 0.999), "0.root is truncated"),
    ],
)
def test_what_is_wrong_with_a_file(path: Path, spoil: Callable[[Path], Path], words: str) -> None:
    spoil(path)
    with pytest.raises((FileNotFoundError, BadFileError), match=words) as caught:
        RootFile(path)
    assert "\n" not in str(caught.value)


def test_trees_that_are_there_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        for name in ("events", "generator"):
            file.mktree(name, {"x": "f4"})
        file["histogram"] = np.histogram([1.0, 2.0])
    with pytest.raises(BadFileError, match=r"no tree 'tree'; its trees are: events, generator$"):
        RootFile(path)
    with pytest.raises(BadFileError, match="no tree 'histogram'"):
        RootFile(path, "histogram")


def test_a_damaged_basket_is_told_with_its_entries(path: Path) -> None:
    damage(path)
    assert len(read(path, "npho", 10, 25)) == 15
    with pytest.raises(BadFileError, match=r"0.root cannot be read from entry 5 to 12; the"):
        read(path, "npho", 5, 12)


def test_flipped_bytes_are_one_sentence_or_harmless(tmp_path: Path) -> None:
    original = write_file(tmp_path / "a.root", {"npho": np.ones((9, 50), "f4")}).read_bytes()
    rng = np.random.default_rng(0)
    spoiled = tmp_path / "b.root"
    told = 0
    for _ in range(150):
        content = bytearray(original)
        for place in rng.integers(20, len(content), 4):
            content[place] = rng.integers(256)
        spoiled.write_bytes(content)
        try:
            read(spoiled, "npho", 0, 9)
        except BadFileError as error:
            told += 1
            assert str(spoiled) in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
    assert told
