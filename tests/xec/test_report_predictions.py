from pathlib import Path

import numpy as np
import pytest
from reconstructed import Columns, columns

from sciml.xec.report.predictions import read_predictions, standard, write_predictions

ANGLES = {f"{kind}_e{axis}" for kind in ("true", "pred", "rule") for axis in "xyz"}


def heads(path: Path) -> list[str]:
    return path.read_text().split("\n")[0].split(",")


def bare(count: int = 30) -> Columns:
    return {
        name: values
        for name, values in columns(count).items()
        if not name.startswith(("rule_", "sig_"))
    }


def test_files_have_the_columns_of_the_older_code_first(tmp_path: Path) -> None:
    files = write_predictions(tmp_path / "new", bare())
    place = ["true_u", "true_v", "true_w"]
    expected = {
        "predictions_angle.csv": ["true_theta", "true_phi", "pred_theta", "pred_phi"],
        "predictions_energy.csv": ["true_energy", "pred_energy", *place],
        "predictions_timing.csv": ["true_timing", "pred_timing"],
        "predictions_uvwFI.csv": [*place, "pred_u", "pred_v", "pred_w"],
    }
    assert {path.name: heads(path) for path in files} == {
        name: ["run", "event", *wanted] for name, wanted in expected.items()
    }
    assert [path.name for path in sorted((tmp_path / "new").iterdir())] == sorted(expected)
    assert (tmp_path / "new" / "predictions_uvwFI.csv").read_text().split("\n")[1][:6] == "7,100,"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    table = columns(50)
    table["true_timing"][3] = np.nan
    write_predictions(tmp_path, table)
    found = read_predictions(tmp_path)
    assert set(found) >= ANGLES
    for name, values in table.items():
        exact = name in {"run", "event"}
        close = 0 if exact else 1e-8 * np.nanmax(abs(values))
        assert found[name] == pytest.approx(values, abs=close, nan_ok=True), name


def test_only_what_was_reconstructed_is_written(tmp_path: Path) -> None:
    table = {name: values for name, values in bare().items() if "timing" not in name}
    table["pred_energy"] = np.full(30, np.nan)  # as the task has columns of no head
    files = write_predictions(tmp_path, table)
    assert [path.name for path in files] == ["predictions_angle.csv", "predictions_uvwFI.csv"]


def test_missing_truths_and_numbers_are_told(tmp_path: Path) -> None:
    table = {"pred_energy": np.array([0.05, 0.04]), "event": np.array([3.0, np.nan])}
    (path,) = write_predictions(tmp_path, table)
    assert path.read_text() == (
        "run,event,true_energy,pred_energy\n-1,3,nan,0.05\n-1,-1,nan,0.04\n"
    )


def test_tables_are_joined_by_run_and_event(tmp_path: Path) -> None:
    table = bare(6)
    write_predictions(tmp_path, table)
    path = tmp_path / "predictions_energy.csv"
    head, *rows = path.read_text().split("\n")[:-1]
    path.write_text("\n".join([head, *reversed(rows[:4])]) + "\n")  # two events are missing
    found = read_predictions(tmp_path)
    assert found["event"].tolist() == table["event"].tolist()
    assert found["pred_energy"][:4] == pytest.approx(table["pred_energy"][:4])
    assert np.isnan(found["pred_energy"][4:]).all()
    assert found["pred_w"] == pytest.approx(table["pred_w"])


def test_events_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    (tmp_path / "predictions_energy.csv").write_text("run,event,pred_energy\n1,2,3\n1,2,4\n")
    (tmp_path / "predictions_timing.csv").write_text("run,event,pred_timing\n1,3,3\n1,2,4\n")
    with pytest.raises(ValueError, match=r"predictions_energy\.csv has the same run and event"):
        read_predictions(tmp_path)
    (tmp_path / "predictions_timing.csv").write_text("event,pred_timing\n3,3\n2,4\n")
    with pytest.raises(ValueError, match=r"predictions_timing\.csv has no columns run and event"):
        read_predictions(tmp_path)


def test_empty_cells_and_quoted_names_are_read(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text('"run_id","event_id","pred_u","true_u"\n1,9007199254740991,0.5,\n1,2,nan,3\n')
    found = read_predictions(path)
    assert found["event"].tolist() == [9007199254740991, 2]
    assert found["pred_u"] == pytest.approx([0.5, np.nan], nan_ok=True)
    assert found["true_u"] == pytest.approx([np.nan, 3.0], nan_ok=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n3\n", "is no table of numbers"),
        ("a,b\n1,words\n", "is no table of numbers"),
        ("a,b\n1,2,3\n", "names 2 columns and has 3"),
        ("a,b\n", "holds no events"),
        ("", "holds no events"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"table\.csv {reason}"):
        read_predictions(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has none of predictions_angle\.csv"):
        read_predictions(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gone\.csv is missing"):
        read_predictions(tmp_path / "gone.csv")


def test_columns_of_inference_get_the_names_of_the_task() -> None:
    # theta 90, phi 0 is along -x; phi 90 along +y
    found = standard(
        {
            "run_id": np.array([1, 2], dtype=np.int32),
            "pred_theta": np.array([90.0, 90.0], dtype=np.float32),
            "pred_phi": np.array([[0.0], [90.0]], dtype=np.float32),
            "reco_energy": np.array([0.05, 1e10]),
            "pred_u": np.array([np.inf, 1.0]),
            "words": np.array(["a", "b"]),
            "npho": np.zeros((2, 5)),
            "scalar": np.array(3.0),
        }
    )
    assert found["run"].tolist() == [1, 2]
    vector = [found[f"pred_e{axis}"] for axis in "xyz"]
    assert pytest.approx(np.array([[-1, 0, 0], [0, 1, 0]]), abs=1e-7) == np.array(vector).T
    assert found["rule_energy"] == pytest.approx([0.05, np.nan], nan_ok=True)
    assert found["pred_u"] == pytest.approx([np.nan, 1.0], nan_ok=True)
    assert not {"words", "npho", "scalar", "run_id"} & set(found)
    assert all(values.dtype == np.float64 for values in found.values())


def test_stored_directions_win_over_angles() -> None:
    names = ("pred_theta", "pred_phi", "pred_ex", "pred_ey", "pred_ez")
    found = standard({name: np.full(2, 0.1) for name in names})
    assert found["pred_ex"].tolist() == [0.1, 0.1]
