from pathlib import Path

import h5py
import pytest
import yaml

from sciml.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"


def test_the_verb_makes_a_file_and_says_what_is_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set.h5"
    words = ["astrochem", "generate", f"--out={out}", "--family=shock", "--tracers=2"]
    words += ["--steps=2", "--dt=1e3", "--evolved_fraction=0", "--workers=1", "--group=mine"]
    summary = main(words)
    assert (summary.tracers, summary.steps) == (2, 4)
    printed = capsys.readouterr().out
    assert "group mine, 2 tracers (0 from evolved chemistry), 4 steps in" in printed
    assert "CPU ms a step; fallbacks: " in printed
    assert "no tracer failed" in printed
    with h5py.File(out) as file:
        assert file["mine/data"].shape == (6, 146)
        assert file["mine"].attrs["family"] == "shock"
    with pytest.raises(ValueError, match="exists; give another --out"):
        main(words)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--tracers=0"], "tracers is 0"),
        (["--steps=0"], "steps is 0"),
        (["--dt=-1"], "dt is -1; give a positive number"),
        (["--zeta=0"], "zeta is 0; give a positive number"),
        (["--evolved_fraction=2"], "evolved_fraction is 2; give a number from 0 to 1"),
        (["--workers=0"], "workers is 0"),
        (["--histories=none.csv"], "no file none.csv; check --histories"),
        (["--family=csv"], "the family csv and --histories belong together"),
        (["--network=net.csv"], "give both --network and --network_species"),
        (["--backend=uclchem", "--network=net.csv"], "UCLCHEM has its network compiled in"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, flags: list[str], words: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        main(["astrochem", "generate", f"--out={tmp_path / 'set.h5'}", *flags])
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", sorted((CONFIGS / "astrochem/generate").glob("*.yaml")))
def test_shipped_settings_are_flags_of_the_verb(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["astrochem", "generate", f"--config={path}", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    wanted = yaml.safe_load(path.read_text())
    assert {name: printed[name] for name in wanted} == wanted
