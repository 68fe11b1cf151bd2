import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import uproot
from checkpoints import small_task
from root_files import cut_short, events, make_files, write_file
from shared import XEC, needs_xec

from sciml.astrochem import AutoencoderTask, PcaResidualAutoencoder
from sciml.cli import main
from sciml.core.checkpoint import save_task
from sciml.xec.apply.infer import Summary
from sciml.xec.apply.reconstructor import Reconstructor
from sciml.xec.commands.infer import described
from sciml.xec.commands.plots import read_events


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "best.ckpt"
    save_task(small_task(), path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_files(tmp_path / "data", 12, 14)[0].parent


def infer(*words: object) -> Summary:
    summary: Summary = main(["xec", "infer", *map(str, words)])
    return summary


def said(*words: object) -> str:
    """The one sentence that a user reads."""
    with pytest.raises((ValueError, OSError)) as caught:
        infer(*words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_table_and_a_summary(
    ckpt: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out.root"
    infer(data, "--ckpt", ckpt, "--out", out, "--batch_size", 8, "--threads", 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{out}: events: 26, files: 2"
    for words in ("26 events in ", " a second); network, ms a batch: p50 ", ", p90 ", ", p99 "):
        assert words in lines[1]
    assert lines[2].startswith("26 invalid photon counts, 0 readings NaN or infinite, 0 events")
    assert len(lines) == 3
    found = read_events(out)
    assert found["run"].tolist() == [0] * 12 + [1] * 14
    given = np.concatenate([events(12, 0)["emiVec"], events(14, 1)["emiVec"]])
    true = np.stack([found[f"true_e{axis}"] for axis in "xyz"], 1)
    np.testing.assert_allclose(true, given, atol=1e-5)
    assert {"pred_u", "sig_w", "pred_ex", "true_timing", "sig_direction"} <= set(found)


@pytest.mark.filterwarnings("ignore::UserWarning")  # no error is that small a figure's
def test_plots_reads_the_table(ckpt: Path, data: Path, tmp_path: Path) -> None:
    infer(data, "--ckpt", ckpt, "--out", tmp_path / "out.root")
    folder = main(
        ["xec", "plots", str(tmp_path / "out.root"), f"--out={tmp_path / 'plots'}",
         "--fiducial=false"]
    )  # fmt: skip
    for name in ("angle", "energy", "position", "timing"):
        assert (folder / f"{name}.png").stat().st_size > 1000


def test_all_settings_arrive(ckpt: Path, data: Path, tmp_path: Path) -> None:
    named = write_file(tmp_path / "named.root", events(9), tree="rec")
    (tmp_path / "list.txt").write_text(f"{named}\n")
    (tmp_path / "dead.txt").write_text("5 # noisy\n2040\n")
    out = tmp_path / "out.dat"
    words = ["--format", "csv", "--tree", "rec", "--events", "4", "--units.energy", "1000"]
    summary = infer(
        f"@{tmp_path / 'list.txt'}", "--ckpt", ckpt, "--out", out, *words,
        "--dead", tmp_path / "dead.txt",
    )  # fmt: skip
    assert (summary.counts["events"], summary.files) == (4, 1)
    out.rename(tmp_path / "out.csv")
    found = read_events(tmp_path / "out.csv")
    np.testing.assert_allclose(found["true_energy"], 1000 * events(9)["energyTruth"][:4], rtol=1e-6)
    ids = infer(named, "--ckpt", ckpt, "--out", tmp_path / "ids.csv", *words[2:], "--dead=[2040,5]")
    assert (tmp_path / "ids.csv").read_bytes() == (tmp_path / "out.csv").read_bytes()
    plain = infer(named, "--ckpt", ckpt, "--out", tmp_path / "plain.csv", *words[2:])
    assert ids.counts == plain.counts
    assert (tmp_path / "plain.csv").read_bytes() != (tmp_path / "out.csv").read_bytes()


def test_bad_files_can_be_left_out(
    ckpt: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_short(data / "0.root")
    words = [data, "--ckpt", ckpt, "--out", tmp_path / "out.root"]
    assert "0.root is truncated" in said(*words)
    with pytest.warns(UserWarning, match="1 of 2 files are left out"):
        infer(*words, "--on_bad_file", "skip")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("1 files left out: ")
    assert "0.root is truncated" in last


def test_threads_are_those_of_the_run_alone(
    ckpt: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    columns = Reconstructor.columns

    def spy(self: Reconstructor, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen.append(torch.get_num_threads())
        return columns(self, batch)

    monkeypatch.setattr(Reconstructor, "columns", spy)
    before = torch.get_num_threads()
    infer(data, "--ckpt", ckpt, "--out", tmp_path / "out.root", "--threads", before + 1)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


def test_a_summary_of_a_run_that_had_nothing_left_to_do() -> None:
    counts = {"events": 7, "invalid": 1, "infinite": 0, "unknown": 0}
    text = described(Summary(Path("a.root"), files=2, resumed=2, counts=counts, seconds=0.1))
    assert text.splitlines()[1] == "2 of the files were finished by an earlier run"
    assert "second" not in text


def test_what_is_wrong_is_one_sentence(ckpt: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.root"
    older = tmp_path / "old.pth"
    older.write_bytes(b"")
    foreign = tmp_path / "foreign.ckpt"
    content = torch.load(ckpt, weights_only=True)
    settings = content["hyper_parameters"] | {"_class_path": "numpy.testing.Tester"}
    torch.save(content | {"hyper_parameters": settings}, foreign)
    (tmp_path / "cut.ckpt").write_bytes(ckpt.read_bytes()[:5000])
    (tmp_path / "dead.txt").write_text("17\nx\n")
    (tmp_path / "there.root").touch()
    (data / "zero.root").touch()
    cases: Sequence[tuple[object, object, list[object], str]] = [
        (data / "0.root", tmp_path / "no.ckpt", [], f"no checkpoint {tmp_path / 'no.ckpt'}; check"),
        (
            data / "0.root",
            older,
            [],
            "old.pth is no checkpoint of sciml; give a .ckpt file, which ",
        ),
        (
            data / "0.root",
            foreign,
            [],
            "foreign.ckpt names the class 'numpy.testing.Tester', which",
        ),
        (data / "0.root", tmp_path / "cut.ckpt", [], "cut.ckpt is not a readable checkpoint"),
        (data / "0.root", ckpt, ["--tree", "rec"], "has no tree 'rec'; its trees are: tree"),
        (data / "0.root", ckpt, ["--out", tmp_path / "there.root"], "there.root exists; give anot"),
        (data / "0.root", ckpt, ["--out", tmp_path / "a.txt"], "use .root, .csv or .parquet"),
        (data / "0.root", ckpt, ["--dead", tmp_path / "dead.txt"], "dead.txt line 2 is 'x'"),
        (data / "0.root", ckpt, ["--dead", tmp_path / "no.txt"], "no.txt; check --dead"),
        (data / "0.root", ckpt, ["--dead", "[4760]"], "no channel 4760 in --dead"),
        (data / "0.root", ckpt, ["--threads", 0], "threads is 0; give at least 1"),
        (data / "0.root", ckpt, ["--events", 0], "events is 0; give at least 1"),
        (data / "zero.root", ckpt, [], "zero.root is empty"),
        (tmp_path / "none*.root", ckpt, [], "no file matches"),
        (data / "9.root", ckpt, [], "9.root is missing; see FILES"),
    ]
    before = sorted(tmp_path.iterdir())
    for files, network, more, words in cases:
        place = [] if "--out" in more else ["--out", out]
        assert words in said(files, "--ckpt", network, *place, *more)
    assert sorted(tmp_path.iterdir()) == before


def test_a_task_of_another_domain_is_refused(data: Path, tmp_path: Path) -> None:
    net = PcaResidualAutoencoder(3, 2, encoder_dim=8, decoder_dims=(8, 8))
    task = AutoencoderTask(net, ["C", "CO", "O"], ["C", "O"])
    path = tmp_path / "other.ckpt"
    save_task(task, path)
    words = said(data, "--ckpt", path, "--out", tmp_path / "out.root")
    assert "other.ckpt holds AutoencoderTask, which reconstructs no gammas; give a" in words


def test_the_program_says_one_sentence(ckpt: Path, tmp_path: Path) -> None:
    words = ["xec", "infer", "none.root", f"--ckpt={ckpt}", f"--out={tmp_path / 'out.root'}"]
    done = subprocess.run(
        [sys.executable, "-m", "sciml", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.strip() == "sciml: none.root is missing; see FILES"


@needs_xec
def test_supplied_events_are_reconstructed(ckpt: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.root"
    infer(XEC / "signal_000.root", "--ckpt", ckpt, "--out", out, "--events", 40)
    with uproot.open(XEC / "signal_000.root") as file:
        names = ["event", "energyTruth"]
        given = file["tree"].arrays(names, entry_stop=40, library="np")
    found = read_events(out)
    assert found["event"].tolist() == given["event"].tolist()
    np.testing.assert_allclose(found["true_energy"], given["energyTruth"], rtol=1e-7)
    # conventional estimates are within reach of weights of no meaning
    assert abs(np.median(found["pred_timing"] - found["true_timing"])) < 5
