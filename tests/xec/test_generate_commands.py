from pathlib import Path

import numpy as np
import pytest
import uproot
import yaml

from sciml.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"


def test_the_verb_makes_files_and_says_what_is_in_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dead.txt").write_text("17\n4200\n")
    out = tmp_path / "set"
    words = ["xec", "generate", f"--out={out}", "--events=4", "--files=1", "--seed=2"]
    words += ["--calib_seed=3", "--vertex=target", "--spectrum=signal", "--noise=2"]
    words += [f"--dead={tmp_path / 'dead.txt'}", "--pileup=1", "--miscal=0.05", "--workers=1"]
    words += ["--compression=lz4"]
    summary = main(words)
    assert [path.name for path in summary.paths] == ["events_0000.root"]
    printed = capsys.readouterr().out
    assert "set: files: 1, events in each: 4, runs from 30000; 4 events in " in printed
    with uproot.open(summary.paths[0]) as file:
        arrays = file["tree"].arrays(["npho", "energyGamma", "nGamma"], library="np")
        about = file["generator"].arrays(library="np")
    np.testing.assert_allclose(arrays["energyGamma"], 0.05283, rtol=1e-6)
    assert (arrays["nGamma"] == 2).all()
    for row in arrays["npho"]:
        assert np.flatnonzero(row > 9e9).tolist() == [17, 4200]
    assert (about["calib_seed"][0], about["miscal"][0], about["noise"][0]) == (3, 0.05, 2)
    with pytest.raises(ValueError, match="exists; give another --out"):
        main(words)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--events=0"], "events is 0; give at least 1"),
        (["--files=0"], "files is 0; give 1 to 10000"),
        (["--files=10001"], "files is 10001"),
        (["--seed=-1"], "seed is -1; give 0 or more"),
        (["--calib_seed=-1"], "calib_seed is -1; give 0 or more"),
        (["--pileup=1.5"], "pileup is 1.5; give a probability from 0 to 1"),
        (["--noise=-1"], "noise is -1; give 0 or more"),
        (["--miscal=0.5"], "miscal is 0.5; give a number from 0 to 0.2"),
        (["--workers=0"], "workers is 0"),
        (["--dead=4761"], "dead is 4761; give 0 to 4760 channels"),
        (["--dead=[4760]"], "no channel 4760 in --dead"),
        (["--dead=none.txt"], "no file none.txt; check --dead"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, flags: list[str], words: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        main(["xec", "generate", f"--out={tmp_path / 'set'}", *flags])
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", sorted((CONFIGS / "xec/generate").glob("*.yaml")))
def test_shipped_settings_are_flags_of_the_verb(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["xec", "generate", f"--config={path}", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    wanted = yaml.safe_load(path.read_text())
    assert {name: printed[name] for name in wanted} == wanted
