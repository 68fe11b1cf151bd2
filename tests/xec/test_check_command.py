import json
from pathlib import Path

import pytest
from root_files import cut_short, make_files

from sciml.cli import main


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return make_files(tmp_path / "data", 30, 12)


def test_tables(paths: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = main(["xec", "check", str(paths[0].parent), "--cuts.fiducial", "true"])
    out = capsys.readouterr().out
    assert found["events"] == 42
    assert 0 < found["dropped"] < 42
    for words in ("42", "1: 17", "npho[4760]", "relative_time[4760]", "uvwTruth[3]", "energyTruth"):
        assert words in out
    assert max(map(len, out.splitlines())) <= 80


def test_numbers_as_json(paths: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    main(["xec", "check", str(paths[1]), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == {str(paths[1]): 12}
    assert found["dead"] == [17]
    assert found["branches"]["npho"]["invalid"] == pytest.approx(1 / 4760)
    assert found["branches"]["event"]["highest"] == 11


def test_a_bad_file_is_an_error_after_the_others_were_shown(
    paths: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    cut_short(paths[0])
    with pytest.raises(ValueError, match=r"1 of 2 files are bad: .*0.root is truncated"):
        main(["xec", "check", str(paths[0].parent)])
    assert "npho[4760]" in capsys.readouterr().out
    with pytest.raises(ValueError, match="1 of 1 files are bad"):
        main(["xec", "check", str(paths[0])])
    assert not capsys.readouterr().out


def test_another_tree_is_told_with_those_that_are_there(paths: list[Path]) -> None:
    with pytest.raises(ValueError, match="no tree 'rec'; its trees are: tree"):
        main(["xec", "check", str(paths[1]), "--tree", "rec"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.root"], "none.root is missing; see FILES"),
        (["none*.root"], r"no file matches none\*.root"),
        (["none.root", "--dead", "0"], "dead is 0.0; give a share"),
    ],
)
def test_what_makes_no_sense_is_told(words: list[str], said: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        main(["xec", "check", *words])
