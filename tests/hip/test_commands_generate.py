from pathlib import Path

import pytest
import yaml

from sciml.cli import main
from sciml.hip.data.packed import PackedSource

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(autouse=True)
def engines_or_skip() -> None:
    pytest.importorskip("rdkit")
    pytest.importorskip("tblite")


@pytest.fixture
def smiles(tmp_path: Path) -> Path:
    path = tmp_path / "list.smi"
    path.write_text("C methane\nO water\nC=O\n")
    return path


@pytest.mark.qm
def test_the_verb_makes_a_file_and_says_what_is_in_it(
    tmp_path: Path, smiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set.h5"
    words = ["hip", "generate", f"--out={out}", f"--smiles={smiles}", "--molecules=2"]
    words += ["--per_molecule=3", "--ts_fraction=0", "--backend=serial"]
    summary = main(words)
    assert summary.molecules == 2
    printed = capsys.readouterr().out
    assert "2 molecules, 6 configurations (2 minimum, 4 thermal) in" in printed
    assert len(PackedSource(out)) == 6
    with pytest.raises(ValueError, match="exists; give another --out"):
        main(words)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--method=gfn2xtb"], "unknown method 'gfn2xtb'.*did you mean gfn2-xtb"),
        (["--molecules=4"], "--molecules 4 asks for more than the 3"),
        (["--molecules=0"], "molecules is 0"),
        (["--per_molecule=0"], "per_molecule is 0"),
        (["--ts_fraction=2"], "ts_fraction is 2"),
        (["--workers=0"], "workers is 0"),
        (["--xyz=some.xyz"], "--smiles or --xyz, not both"),
        (["--smiles=none.smi"], "no file none.smi; check --smiles"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, smiles: Path, flags: list[str], words: str
) -> None:
    out = tmp_path / "set.h5"
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        main(["hip", "generate", f"--out={out}", f"--smiles={smiles}", *flags])
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["list.smi"]


def test_a_missing_package_is_named(
    tmp_path: Path, smiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"^rdkit is missing: pip install -e '\.\[qm\]'$"):
        main(["hip", "generate", f"--out={tmp_path / 'set.h5'}", f"--smiles={smiles}"])


@pytest.mark.parametrize("path", sorted((CONFIGS / "hip/generate").glob("*.yaml")))
def test_shipped_settings_are_flags_of_the_verb(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["hip", "generate", f"--config={path}", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    wanted = yaml.safe_load(path.read_text())
    assert {name: printed[name] for name in wanted} == wanted
