from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from reconstructed import Columns, columns

from sciml.cli import call_verb, verb_function
from sciml.xec.commands.plots import read_events
from sciml.xec.physics.coordinates import emission_angles
from sciml.xec.report.gammas import judged
from sciml.xec.report.predictions import write_predictions
from sciml.xec.report.regions import region_rows

FIGURES = ["angle", "calibration", "energy", "energy_signal", "position", "timing", "worst"]
SHORT = ("true_u", "true_v", "true_w", "true_timing", "pred_timing")
TABLES = ["fits", "resolutions", "worst_events"]


def run(*words: str) -> Any:
    return call_verb(verb_function("xec", "plots"), "sciml xec plots", words)


def inferred(table: Columns) -> dict[str, np.ndarray]:
    """The same events with the names of inference."""
    found = {f"{n}_id": table[n].astype("i4") for n in ("run", "event")}
    for name, values in table.items():
        if name.startswith(("true_", "pred_", "sig_")) and name[-3:-1] != "_e":
            found[name] = values.astype("f4")
        elif name.startswith("rule_") and name[-3:-1] != "_e":
            found[name.replace("rule_", "reco_")] = values.astype("f4")
    for kind in ("true", "pred"):
        vectors = np.stack([table[f"{kind}_e{axis}"] for axis in "xyz"], 1)
        found[f"{kind}_theta"], found[f"{kind}_phi"] = emission_angles(vectors).T.astype("f4")
    return found


def write_root(path: Path, table: Columns, tree: str = "val_tree") -> Path:
    arrays = inferred(table)
    with uproot.recreate(path) as file:
        file.mktree(tree, {name: one.dtype for name, one in arrays.items()}).extend(arrays)
    return path


def names(folder: Path, suffix: str) -> list[str]:
    return sorted(path.stem for path in folder.glob(f"*{suffix}"))


def test_figures_come_from_the_tables_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_predictions(tmp_path / "val", columns(300))
    out = tmp_path / "new" / "plots"
    assert run(str(tmp_path / "val"), f"--out={out}") == out
    for suffix, start in ((".pdf", b"%PDF"), (".png", b"\x89PNG")):
        assert names(out, suffix) == FIGURES
        assert all(path.read_bytes().startswith(start) for path in out.glob(f"*{suffix}"))
    assert names(out, ".csv") == sorted(FIGURES + TABLES)
    assert all(path.read_text().endswith("\n") for path in out.glob("*.csv"))
    assert [path.name for path in out.parent.iterdir()] == ["plots"]
    printed = capsys.readouterr().out
    assert "E > 48 MeV" in printed
    assert f"in {out}" in printed


def test_a_file_of_inference_gives_the_same_numbers(tmp_path: Path) -> None:
    table = columns(300, outside=20)
    write_predictions(tmp_path / "val", table)
    path = write_root(tmp_path / "infer.root", table)
    found, expected = (
        [row for row in region_rows(judged(read_events(file))) if row["method"] == "network"]
        for file in (path, tmp_path / "val")
    )
    assert len(found) == len(expected) > 80
    assert found[0]["events"] == 300
    for row, other in zip(found, expected, strict=True):
        assert [*row.values()][:5] == [*other.values()][:5]
        assert row["half_width"] == pytest.approx(other["half_width"], rel=1e-3)


def same(found: Columns, table: Columns) -> bool:
    shared = ("true_w", "pred_energy", "pred_ex", "rule_u", "sig_v", "event")
    return all(np.allclose(found[name], table[name], atol=1e-4) for name in shared)


@pytest.mark.parametrize("suffix", [".root", ".npz", ".parquet", ".csv"])
def test_every_kind_of_file_is_read(tmp_path: Path, suffix: str) -> None:
    table, path = columns(30), tmp_path / f"file{suffix}"
    arrays = inferred(table)
    if suffix == ".root":
        write_root(path, table)
    elif suffix == ".npz":
        np.savez(path, **{k: v[:, None] if k == "pred_u" else v for k, v in arrays.items()})
    elif suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table(arrays), path)
    else:
        lines = [",".join(arrays), *(",".join(map(str, row)) for row in zip(*arrays.values()))]  # noqa: B905
        path.write_text("\n".join(lines) + "\n")
    assert same(read_events(path), table)


def test_a_folder_of_files_is_one_set_of_events(tmp_path: Path) -> None:
    table = columns(50)
    for number, rows in enumerate((slice(0, 20), slice(20, 50))):
        write_root(tmp_path / f"{number}.root", {n: v[rows] for n, v in table.items()})
    assert same(read_events(tmp_path), table)


def test_another_tree_is_read_when_asked_for(tmp_path: Path) -> None:
    path = write_root(tmp_path / "file.root", columns(30), "results")
    assert len(read_events(path, "results")["run"]) == 30
    with pytest.raises(ValueError, match="no tree 'val_tree'; its trees are: results"):
        read_events(path)


def test_events_beyond_the_fiducial_volume_can_be_kept(tmp_path: Path) -> None:
    table = columns(60, outside=30)
    lines = [",".join(map(str, row)) for row in zip(*(table[n] for n in SHORT), strict=True)]
    (tmp_path / "short.csv").write_text("\n".join([",".join(SHORT), *lines, ""]))
    for word, count in (("true", 60), ("false", 90)):
        out = tmp_path / word
        run(str(tmp_path / "short.csv"), f"--out={out}", f"--fiducial={word}")
        assert names(out, ".png") == ["timing", "worst"]
        assert f"all,timing,ps,network,{count}," in (out / "resolutions.csv").read_text()


REFUSED: Sequence[tuple[str, str]] = [
    ("true_", "fewer than 20 events with true and reconstructed values in the fiducial volume"),
    ("pred_", "fewer than 20 events with true and reconstructed values"),
]


@pytest.mark.parametrize(("start", "reason"), REFUSED)
def test_events_without_truths_are_refused(tmp_path: Path, start: str, reason: str) -> None:
    table = columns(40)
    for name in table:
        if name.startswith(start):
            table[name] = np.full(40, np.nan)
    path = write_root(tmp_path / "file.root", table)
    with pytest.raises(ValueError, match=reason):
        run(str(path), f"--out={tmp_path / 'out'}")
    assert [one.name for one in tmp_path.iterdir()] == ["file.root"]


def test_wrong_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exists; give another --out"):
        run(str(tmp_path), f"--out={tmp_path}")
    for wrong, reason in (("gone.root", "is missing"), ("", "has none of predictions_angle")):
        with pytest.raises(FileNotFoundError, match=reason):
            run(str(tmp_path / wrong), f"--out={tmp_path / 'out'}")
    with uproot.recreate(tmp_path / "empty.root") as file:
        file.mktree("val_tree", {"pred_u": "f4"})
    with pytest.raises(ValueError, match=r"'val_tree' of .*empty\.root has no entries"):
        run(str(tmp_path / "empty.root"), f"--out={tmp_path / 'out'}")
