import os
from pathlib import Path

import pytest

from sciml.xec.data.files import find_files


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, also the working directory, with a.root to c.root below ``data``."""
    monkeypatch.chdir(tmp_path)
    for name in ("c", "a", "b"):
        path = tmp_path / "data" / f"{name}.root"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "data" / "notes.md").touch()
    return tmp_path


def names(found: list[Path]) -> list[str]:
    return [path.stem for path in found]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("data/b.root", "b"),
        ("data", "abc"),
        ("data/[ac].root", "ac"),
        ("data/**", "abc"),
        (["data/c.root", "data/a.root"], "ac"),
        (["data/c.root", "data", "./data/c.root"], "abc"),
        (["data/*.root", "data/a.root"], "abc"),
    ],
)
def test_everything_that_names_files(given: str | list[str], expected: str) -> None:
    Path("data/notes.md").unlink()
    assert names(find_files(given, "--data.train")) == list(expected)


def test_home_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert find_files("~/data/a.root", "--data.val") == [folder / "data/a.root"]
    assert names(find_files("~/data/*.root", "--data.val")) == ["a", "b", "c"]


@pytest.mark.parametrize("word", ["data/list.txt", "@data/list"])
def test_a_list_names_files_beside_itself(folder: Path, word: str) -> None:
    text = f"# mine\nc.root\n\n{folder}/data/a.root  # absolute\n[b].root\n"
    Path("data/list.txt").write_text(text)
    Path("data/list").write_text(text)
    assert names(find_files(word, "--data.train")) == ["a", "b", "c"]


def test_lists_may_be_nested() -> None:
    Path("data/outer.txt").write_text("@inner\nb.root\n")
    Path("data/inner").write_text("a.root\n")
    assert names(find_files("data/outer.txt", "--data.train")) == ["a", "b"]


def test_a_link_to_a_file_is_the_same_file() -> None:
    os.symlink(Path("data/a.root").resolve(), "data/z.root")
    assert names(find_files("data", "--data.train")) == ["a", "b", "c"]


def test_a_name_with_brackets_is_taken_as_it_is() -> None:
    Path("data/run[12].root").touch()
    assert names(find_files("data/run[12].root", "--data.train")) == ["run[12]"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("data/d.root", "data/d.root is missing; see --data.train"),
        ("data/x*.root", r"no file matches data/x\*.root; see --data.train"),
        ("empty", "the folder empty has no .root files; see --data.train"),
        ("@none", "the list of files none is missing"),
        ("empty.txt", "the list empty.txt names no files"),
        ([], "no files are named; set --data.train"),
        (["data", "d.root"], "d.root is missing"),
    ],
)
def test_what_names_nothing_is_told(given: str | list[str], words: str) -> None:
    Path("empty").mkdir()
    Path("empty.txt").write_text("# nothing\n")
    with pytest.raises(FileNotFoundError, match=words):
        find_files(given, "--data.train")
