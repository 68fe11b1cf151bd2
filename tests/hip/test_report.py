import csv
from io import StringIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from rich.console import Console

from sciml.core.files import write_text
from sciml.hip.data.batch import collate
from sciml.hip.data.record import Record
from sciml.hip.report import (
    SAMPLES,
    SAMPLES_PER_BATCH,
    Samples,
    comparison_table,
    confusion_shares,
    figures,
    molecule_table,
)


def molecules(sizes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    records = []
    for size in sizes:
        hessian = rng.normal(size=(3 * size, 3 * size))
        positions = rng.normal(size=(size, 3))
        records.append(Record(np.full(size, 6), positions, -5.0 * size, positions, hessian))
    return collate(records, 5.0)


def test_samples_hold_real_entries_only() -> None:
    batch = molecules((2, 3))
    batch["w_forces"][0] = 0.0
    prediction = {
        "energy": torch.tensor([1.0, 3.0]),
        "total_energy": torch.tensor([1.0, 3.0]) - 4.0 * batch["ptr"].diff(),
        "forces": batch["forces"] + 1.0,
        "hessian": batch["hessian"] + 2.0,
    }
    samples = Samples()
    samples.add(prediction, batch, {"cos_v1": torch.tensor([0.5, torch.nan])})
    arrays = samples.arrays()
    # reference energies are -4 a carbon, so the labels are -1 an atom
    np.testing.assert_allclose(arrays["energy"], [[-1.0, 0.5], [-1.0, 1.0]])
    assert arrays["forces"].shape == (9, 2)
    assert arrays["hessian"].shape == (36 + 81, 2)
    np.testing.assert_allclose(arrays["hessian"] @ [-1, 1], 2.0)
    assert arrays["cos_v1"].tolist() == [0.5]


def test_samples_stay_few() -> None:
    batch = molecules((12, 12))
    prediction = {
        "energy": batch["energy"],
        "total_energy": batch["energy"],
        "forces": batch["forces"],
        "hessian": batch["hessian"],
    }
    samples = Samples()
    for _ in range(20):
        samples.add(prediction, batch, {})
    kept = samples.arrays()["hessian"]
    assert SAMPLES_PER_BATCH < len(kept) <= SAMPLES + SAMPLES_PER_BATCH


def test_every_parity_plot_has_a_residual_panel_and_units() -> None:
    rng = np.random.default_rng(0)
    predictions = {
        **{name: rng.normal(size=(50, 2)) for name in ("energy", "forces", "hessian")},
        "cos_v1": rng.uniform(size=20),
        "characters": np.diag([0.5, 0.25, 0.25]),
    }
    drawn = figures(predictions)
    assert set(drawn) == {"energy", "forces", "hessian", "cos_v1", "characters"}
    for name, unit in {"energy": "eV/atom", "forces": "eV/Å", "hessian": "eV/Å²"}.items():
        upper, lower = drawn[name].axes
        assert f"({unit})" in upper.get_ylabel()
        assert "residual" in lower.get_ylabel()
        error = np.abs(predictions[name] @ [-1, 1]).mean()
        assert f"{error:.3g}" in upper.get_title()
    assert "100 %" in drawn["characters"].axes[0].get_title()
    plt.close("all")


def test_without_data_there_is_no_figure() -> None:
    assert figures({}) == {}
    assert confusion_shares({}, "val") is None


def test_table_shows_the_model_beside_its_baselines() -> None:
    values = {
        "val/hessian_mae": 0.2,
        "val/hessian_mae_zero": 2.8,
        "val/hessian_mae_prior": 0.5,
        "val/cos_v1": 0.95,
    }
    console = Console(width=120, record=True, file=StringIO())
    console.print(comparison_table("val after 3 steps", values, "val"))
    lines = console.export_text().splitlines()
    (row,) = [line for line in lines if "hessian_mae " in line]
    cells = [cell.strip() for cell in row.split("│")[2:-1]]
    assert cells == ["eV/Å²", "0.2", "2.8", "", "", "0.5"]
    assert any("cos_v1" in line for line in lines)
    assert not any("forces_mae" in line for line in lines)


def test_molecule_table_is_sorted_csv_with_empty_cells(tmp_path: Path) -> None:
    rows = [{"id": 7, "atoms": 3, "zpe_mae": float("nan")}, {"id": 2, "atoms": 5, "zpe_mae": 0.25}]
    path = tmp_path / "test" / "molecules.csv"
    write_text(path, molecule_table(rows))
    read = list(csv.DictReader(StringIO(path.read_text())))
    assert [row["id"] for row in read] == ["2", "7"]
    assert [row["zpe_mae"] for row in read] == ["0.25", ""]
    assert [entry.name for entry in path.parent.iterdir()] == ["molecules.csv"]
    assert float(read[0]["zpe_mae"]) == pytest.approx(0.25)
