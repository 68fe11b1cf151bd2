import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
import uproot

from sciml.xec.data.writer import FLUSH, EventWriter

COLUMNS = {"run_id": "i4", "event_id": "i8", "pred_energy": "f4", "true_energy": "f4"}
SUFFIXES = (".root", ".csv", ".parquet")


def read(path: Path, tree: str = "val_tree") -> dict[str, Any]:
    """Columns of a file, by the library that others use."""
    if path.suffix == ".root":
        with uproot.open({str(path): None}) as file:
            return dict(file[tree].arrays(library="np"))
    if path.suffix == ".csv":
        as_written = pyarrow.csv.ConvertOptions(null_values=[])
        table = pyarrow.csv.read_csv(path, convert_options=as_written)
    else:
        table = pyarrow.parquet.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_come_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "deep" / f"out{suffix}"
    large = 2**53 + 1  # no double has it
    with EventWriter(path, COLUMNS) as writer:
        for start in (0, 3):
            writer.write(
                {
                    "run_id": torch.full((3,), 16777217),  # no float32 has it
                    "event_id": torch.arange(start, start + 3) + large,
                    "pred_energy": np.arange(start, start + 3)[:, None] / 8,
                }
            )
        assert not path.exists()
        assert writer.rows == 6
    found = read(path)
    assert list(found) == list(COLUMNS)
    assert found["run_id"].tolist() == [16777217] * 6
    assert found["event_id"].tolist() == [large + place for place in range(6)]
    assert found["pred_energy"].tolist() == [0, 0.125, 0.25, 0.375, 0.5, 0.625]
    assert np.isnan(found["true_energy"]).all()  # never 0
    if suffix != ".csv":
        assert {name: values.dtype.str[1:] for name, values in found.items()} == COLUMNS
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_are_those_of_the_first_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with EventWriter(path, tree="predictions") as writer:
        rows: dict[str, Any] = {"event": np.arange(2), "x": torch.ones(2, dtype=torch.bfloat16)}
        writer.write(rows)
        writer.write(rows)
    found = read(path, "predictions")
    assert found["event"].tolist() == [0, 1, 0, 1]
    assert found["x"].tolist() == [1] * 4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_without_rows_has_its_columns(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with EventWriter(path, COLUMNS):
        pass
    assert {name: len(values) for name, values in read(path).items()} == dict.fromkeys(COLUMNS, 0)


def test_text_is_short_and_says_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with EventWriter(path, {"run": "i4", "x": "f4"}) as writer:
        writer.write({"run": np.array([7, 8]), "x": np.array([0.1, np.nan], "f4")})
    assert path.read_text() == "run,x\n7,0.1\n8,nan\n"


@pytest.mark.parametrize("format", ["root", "csv", "parquet"])
def test_the_format_can_be_named(tmp_path: Path, format: Any) -> None:
    path = tmp_path / "out.dat"
    with EventWriter(path, format=format) as writer:
        writer.write({"x": np.arange(3)})
    path.rename(tmp_path / f"out.{format}")
    assert read(tmp_path / f"out.{format}")["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_memory_does_not_grow_with_rows(tmp_path: Path, suffix: str) -> None:
    rows = {name: np.zeros(FLUSH // 4, kind) for name, kind in COLUMNS.items()}
    with EventWriter(tmp_path / f"out{suffix}", COLUMNS) as writer:
        for _ in range(8):
            writer.write(rows)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(160):  # 3 MB
            writer.write(rows)
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
    assert grown < 3e5
    assert len(read(tmp_path / f"out{suffix}")["run_id"]) == 168 * FLUSH // 4


def test_rows_are_copied(tmp_path: Path) -> None:
    path = tmp_path / "out.root"
    values = torch.arange(3)
    with EventWriter(path) as writer:
        writer.write({"x": values})
        values[:] = -1  # as when the memory of a batch is filled again
    assert read(path)["x"].tolist() == [0, 1, 2]


def test_settings_of_a_root_file(tmp_path: Path) -> None:
    path = tmp_path / "out.root"
    with EventWriter(path, {"x": "f4"}, tree="predictions") as writer:
        writer.write({"x": np.ones(3)})
        writer.describe("metadata", {"scheme": "log1p", "scale": 0.58, "count": 3, "none": ""})
    found = read(path, "metadata")
    assert bytes(found["scheme"][0].astype("u1")).decode() == "log1p"
    assert found["scheme"].dtype == np.int8
    assert found["scale"].tolist() == [0.58]
    assert found["count"].tolist() == [3]
    assert found["none"].tolist() == [[0]] or found["none"].tolist() == [0]
    assert len(read(path, "predictions")["x"]) == 3


def test_settings_of_other_files(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    with EventWriter(path) as writer:
        with pytest.raises(ValueError, match="write rows before metadata"):
            writer.describe("metadata", {"scheme": "sqrt"})
        writer.write({"x": np.ones(3)})
        writer.describe("metadata", {"scheme": "sqrt", "scale": 2.0})
    stored = pyarrow.parquet.read_metadata(path).metadata
    assert stored[b"metadata.scheme"] == b"sqrt"
    assert stored[b"metadata.scale"] == b"2.0"
    with (
        pytest.raises(ValueError, match="a csv file has no place for metadata"),
        EventWriter(tmp_path / "out.csv", COLUMNS) as writer,
    ):
        writer.describe("metadata", {"scheme": "sqrt"})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_interrupted_file_is_removed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    writer = EventWriter(path, COLUMNS)

    def write_some() -> None:
        with writer:
            writer.write({"run_id": np.arange(3), "event_id": np.arange(3)})
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_some()
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_only_when_told(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("mine\n")
    with pytest.raises(ValueError, match=r"out.csv exists; give another --out or remove it"):
        EventWriter(path, COLUMNS)
    with pytest.raises(RuntimeError), EventWriter(path, COLUMNS, overwrite=True):
        raise RuntimeError("stop")
    assert path.read_text() == "mine\n"
    with EventWriter(path, {"x": "f4"}, overwrite=True):
        pass
    assert path.read_text() == "x\n"


def test_an_unknown_suffix_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"out.txt ends on no known format; use .root, .csv or"):
        EventWriter(tmp_path / "out.txt")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"run_id": np.arange(2), "event_id": np.arange(3)}, "run_id, event_id of .* in length"),
        ({}, "differ in length"),
        ({"run_id": np.arange(2)}, "'event_id' of .* holds int64 and cannot be left out"),
        ({"run_id": np.ones(2), "event_id": np.arange(2)}, "'run_id' of .* holds int32, not float"),
        (
            {"run_id": np.array([1, 2**31]), "event_id": np.arange(2)},
            "'run_id' of .* holds int32, not 2147483648",
        ),
        (
            {"run": np.arange(2)},
            "without a column 'run'; its columns are run_id, event_id",
        ),
        ({"run_id": np.ones((2, 2))}, r"has the shape \(2, 2\); give one number a row"),
        ({"run_id": np.array(["a", "b"])}, "holds <U1; give numbers"),
    ],
)
def test_rows_that_do_not_fit_are_told(tmp_path: Path, rows: dict[str, Any], words: str) -> None:
    with (
        pytest.raises(ValueError, match=words),
        EventWriter(tmp_path / "out.root", COLUMNS) as writer,
    ):
        writer.write(rows)
    assert not list(tmp_path.iterdir())
