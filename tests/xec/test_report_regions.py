from io import StringIO

import numpy as np
import pytest
from reconstructed import columns
from rich.console import Console

from sciml.xec.report.regions import region_rows, region_table, regions
from sciml.xec.report.resolution import error_of, select, spread


def test_regions_cut_where_they_say() -> None:
    table = columns(2000)
    table["true_w"][0] = 2.0
    found = dict(regions(table))
    u, v, w, energy = (abs(table[f"true_{n}"]) for n in ("u", "v", "w", "energy"))
    expected = {
        "all": u >= 0,
        "w < 2 cm": w < 2,
        "w > 2 cm": w > 2,
        "E > 48 MeV": energy > 0.048,
        "E > 48 MeV, w < 2 cm": (energy > 0.048) & (w < 2),
        "E 45 to 50 MeV": (energy >= 0.045) & (energy < 0.05),
        "|u| 8 to 16 cm": (u >= 8) & (u < 16),
        "|v| 45 to 67.9 cm": (v >= 45) & (v < 67.9),
    }
    for name, inside in expected.items():
        assert np.array_equal(found[name], inside), name
    bins = [inside for name, inside in found.items() if name.startswith("E ") and "to" in name]
    assert np.sum(bins, axis=0).tolist() == [1] * 2000


def test_regions_of_what_is_not_known_are_left_out() -> None:
    table = {"true_energy": np.array([0.05, np.nan]), "pred_energy": np.array([0.05, 0.05])}
    names = [name for name, _ in regions(table)]
    assert names[:2] == ["all", "E > 48 MeV"]
    assert not [name for name in names if "w" in name or "|" in name]


def test_rows_hold_the_spread_of_their_events() -> None:
    table = columns(2000)
    rows = region_rows(table)
    row = next(
        one
        for one in rows
        if (one["region"], one["quantity"], one["method"]) == ("w < 2 cm", "u", "conventional")
    )
    found = spread(error_of(select(table, table["true_w"] < 2), "u", "rule_"))
    assert list(row) == [
        *("region", "quantity", "unit", "method", "events"),
        *("bias", "bias_error", "half_width", "half_width_error"),
    ]
    assert [*row.values()][2:] == ["mm", "conventional", *found]


def test_sparse_regions_have_no_row() -> None:
    table = columns(60)
    table["true_w"][:] = 5.0
    table["true_w"][:10] = 1.0
    assert "w < 2 cm" not in {row["region"] for row in region_rows(table)}
    table["pred_u"][:] = np.nan  # the conventional one alone tells nothing of the network
    assert "u" not in {row["quantity"] for row in region_rows(table)}


def test_the_table_compares_the_methods_in_all_events() -> None:
    rows = region_rows(columns(2000))
    table = region_table(rows)
    console = Console(width=160, record=True, file=StringIO())
    console.print(table)
    printed = console.export_text().split("\n")
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed]
    cells = {line[0]: line[1:] for line in lines if line}
    first = next(row for row in rows if row["quantity"] == "u")
    expected = f"{first['half_width']:.3f} ± {first['half_width_error']:.3f}"
    assert cells["all"][:2] == ["2000", expected]
    assert cells["conventional"][0] == "2000"
    assert [line[0] for line in lines if line].count("conventional") == 1
    assert float(cells["conventional"][1].split()[0]) == pytest.approx(6.0, rel=0.1)
