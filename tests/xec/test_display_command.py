from pathlib import Path
from typing import Any

import numpy as np
import pytest
from root_files import Arrays, events, renamed, without, write_file
from shared import XEC, needs_xec

from sciml.cli import call_verb, verb_function
from sciml.xec.commands.display import read_event, reconstructed, truths
from sciml.xec.data.branches import Units
from sciml.xec.report.predictions import write_predictions

BEGINNINGS = {".pdf": b"%PDF", ".png": b"\x89PNG", ".svg": b"<?xml"}


def run(*words: str) -> Any:
    return call_verb(verb_function("xec", "display"), "sciml xec display", words)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_file(tmp_path / "data" / "events.root", events(12))


def shown(path: Path, event: str) -> tuple[Arrays, int]:
    return read_event(path, event, "tree", Units())


@pytest.mark.parametrize("ending", BEGINNINGS)
def test_a_picture_is_written(
    path: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / f"event{ending}"
    assert run(str(path), "--event=7:5", f"--out={out}") == out
    assert out.read_bytes().startswith(BEGINNINGS[ending])
    assert [one.name for one in out.parent.iterdir()] == [out.name]
    assert "run 7 event 5, entry 5" in capsys.readouterr().out


def test_events_are_named_by_run_and_event_or_entry(path: Path) -> None:
    branches = events(12)
    for event, entry in (("7:11", 11), ("3", 3), ("0", 0), (" 7:0 ", 0)):
        found, place = shown(path, event)
        assert place == entry
        assert found["event"].tolist() == [entry]
        assert found["npho"].shape == (1, 4760)
        assert found["npho"][0] == pytest.approx(branches["npho"][entry])


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ("7:12", "has no event 7:12"),
        ("8:3", "has no event 8:3"),
        ("12", "has entries 0 to 11, not 12"),
        ("-1", "'-1' is no event; give --event run:event or a number from 0"),
        ("a:b", "'a:b' is no event"),
    ],
)
def test_events_that_are_not_there_are_refused(path: Path, event: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        shown(path, event)


def test_an_event_that_is_there_twice_is_asked_for_by_its_entry(tmp_path: Path) -> None:
    branches = events(4)
    branches["event"][3] = 1
    path = write_file(tmp_path / "twice.root", branches)
    with pytest.raises(ValueError, match=r"has event 7:1 2 times; give an entry: 1, 3"):
        shown(path, "7:1")
    assert shown(path, "3")[1] == 3


def test_files_without_run_and_truths_are_drawn(tmp_path: Path) -> None:
    branches = without(
        events(3), "run", "event", "emiVec", "emiAng", "energyTruth", "timeTruth", "uvwTruth"
    )
    path = write_file(tmp_path / "real.root", renamed(branches, npho="relative_npho"))
    with pytest.raises(ValueError, match="no branches run and event; give the entry's number"):
        shown(path, "7:1")
    found, _ = shown(path, "1")
    assert found["run"].tolist() == [-1]
    assert truths(found) == {}
    run(str(path), "--event=1", f"--out={tmp_path / 'event.png'}")


def test_truths_have_the_units_and_names_of_the_task(path: Path) -> None:
    branches = events(12)
    found, _ = read_event(path, "2", "tree", Units(energy=1e-3))
    numbers = truths(found)
    assert numbers["true_energy"] == pytest.approx(1e-3 * branches["energyTruth"][2])
    assert numbers["true_timing"] == pytest.approx(branches["timeTruth"][2])
    assert [numbers[f"true_{a}"] for a in "uvw"] == pytest.approx(branches["uvwTruth"][2].tolist())
    vector = [numbers[f"true_e{a}"] for a in "xyz"]
    assert vector == pytest.approx(branches["emiVec"][2].tolist())


def predictions(folder: Path) -> Path:
    table = {"run": np.full(12, 7.0), "event": np.arange(12.0)[::-1]}
    table |= {f"pred_{name}": np.arange(12.0) + place for place, name in enumerate("uvw")}
    table |= {f"true_{name}": np.full(12, np.nan) for name in "uvw"}
    write_predictions(folder, table)
    return folder


def test_predictions_are_found_by_run_and_event_not_by_row(tmp_path: Path) -> None:
    folder = predictions(tmp_path / "val")
    found = reconstructed(folder, 7, 2)  # the tenth row
    assert (found["pred_u"], found["pred_v"], found["pred_w"]) == (9.0, 10.0, 11.0)
    assert "true_u" not in found  # unknown, that of the file stays
    for run_number, event in ((7, 12), (8, 2)):
        with pytest.raises(ValueError, match=rf"has event {run_number}:{event} 0 times"):
            reconstructed(folder, run_number, event)


def test_predictions_without_numbers_of_events_are_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("pred_u\n1\n")
    with pytest.raises(ValueError, match="does not tell the run and the number of its events"):
        reconstructed(tmp_path / "table.csv", 7, 2)


def test_predictions_are_drawn(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "event.pdf"
    run(str(path), "--event=7:2", f"--out={out}", f"--predictions={predictions(tmp_path / 'val')}")
    assert out.read_bytes().startswith(b"%PDF")


def test_what_is_no_picture_is_refused_at_once(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"event\.txt is no picture; end --out with \.pdf, \.png"):
        run(str(path), f"--out={tmp_path / 'event.txt'}")
    with pytest.raises(FileNotFoundError, match=r"gone\.root is missing"):
        run(str(tmp_path / "gone.root"), f"--out={tmp_path / 'event.png'}")
    assert not (tmp_path / "event.png").exists()


@needs_xec
def test_a_supplied_event_is_drawn(tmp_path: Path) -> None:
    out = tmp_path / "event.png"
    run(str(XEC / "signal_000.root"), "--event=3", f"--out={out}")
    assert out.read_bytes().startswith(b"\x89PNG")
