import csv
from io import StringIO

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from reconstructed import Columns, columns

from sciml.xec.metrics import resolutions
from sciml.xec.metrics.calibration import calibration, concentration_of
from sciml.xec.report.calibration import SHARES, calibrated, coverage
from sciml.xec.report.gammas import csv_text, figures, fit_rows, judged, plates
from sciml.xec.report.plate import with_error
from sciml.xec.report.resolution import Spread, error_of, select
from sciml.xec.report.series import histogram_edges

ALL = {"angle", "energy", "energy_signal", "timing", "position", "calibration", "worst"}
UNITS = {
    "angle": {"opening angle ψ (°)", "true θ (°)", "true φ (°)", "true energy (MeV)"},
    "energy": {"relative energy error (%)", "true energy (MeV)", "true w (cm)"},
    "timing": {"time error (ps)", "68 % half-width, time (ps)"},
    "position": {"u error (mm)", "68 % half-width, w (mm)", "true w (cm)"},
}


def of(table: Columns, *parts: str) -> Columns:
    return {
        name: values
        for name, values in table.items()
        if name.split("_")[1:] and name.split("_", 1)[1] in parts
    }


def labels(figure: Figure) -> set[str]:
    return {text for axes in figure.axes for text in (axes.get_xlabel(), axes.get_ylabel())}


def test_all_columns_give_all_figures() -> None:
    found = figures(columns(400))
    assert set(found) == ALL
    assert all(isinstance(figure, Figure) for figure in found.values())
    assert not plt.get_fignums()  # none is kept by pyplot
    for name, wanted in UNITS.items():
        assert wanted <= labels(found[name])
    for name in ("angle", "energy", "timing", "position"):
        for axes in found[name].axes:
            for label in (axes.get_xlabel(), axes.get_ylabel()):
                assert not label or label == "events" or label.endswith(")"), label


def test_float32_columns_of_every_length_can_be_drawn() -> None:
    for count in (20, 21, 75):
        table = {name: one.astype(np.float32) for name, one in columns(count).items()}
        found = figures(table)
        assert {"angle", "energy", "timing", "position", "calibration"} <= found.keys()
        for figure in found.values():
            figure.canvas.draw()


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("energy",), {"energy", "energy_signal", "calibration", "worst"}),
        (("timing",), {"timing", "calibration", "worst"}),
        (("ex", "ey", "ez"), {"angle", "worst"}),
        (("u", "v", "w"), {"position", "calibration", "worst"}),
    ],
)
def test_figures_are_those_of_the_columns(parts: tuple[str, ...], expected: set[str]) -> None:
    found = figures(of(columns(400), *parts))
    assert set(found) == expected
    for figure in found.values():
        figure.canvas.draw()


def test_columns_without_values_give_nothing() -> None:
    table = columns(100)
    assert figures({}) == {}
    assert figures({name: np.full(100, np.nan) for name in table}) == {}
    assert figures({name: one for name, one in table.items() if "true" not in name}) == {}
    assert figures({name: one[:19] for name, one in table.items()}) == {}


def test_exact_predictions_can_be_drawn() -> None:
    table = columns(100)
    for name in list(table):
        if name.startswith("true_"):
            table[name.replace("true_", "pred_")] = table[name]
    found = plates(judged(table))
    assert "worst" not in found
    for plate in found.values():
        plate.figure.canvas.draw()
    faults = {row["fault"] for row in fit_rows(found)}
    assert "all are equal" in faults


def test_absurd_predictions_can_be_drawn() -> None:
    table = columns(200)
    rng = np.random.default_rng(0)
    for name in table:
        if name.startswith("pred_"):
            table[name] = table[name] + 1e6 * rng.standard_cauchy(200)
    found = figures(table)
    assert {"angle", "energy", "timing", "position", "calibration"} <= found.keys()
    for figure in found.values():
        figure.canvas.draw()
        for axes in figure.axes:
            assert np.isfinite([*axes.get_xlim(), *axes.get_ylim()]).all()


def test_events_beyond_the_fiducial_volume_are_left_out() -> None:
    table = columns(300, outside=50)
    assert len(judged(table)["true_u"]) == 300
    assert len(judged(table, in_volume=False)["true_u"]) == 350
    assert "300 events in the fiducial volume" in figures(table)["timing"].get_suptitle()


def test_widths_are_the_metrics_of_the_task() -> None:
    table = judged(columns(2000))
    numbers = plates(table)["timing"].numbers
    metrics = resolutions({name: torch.from_numpy(one) for name, one in table.items()})
    rows = [row for row in numbers if row["panel"] == "time error (ps)"]
    counts = sum(row["value"] for row in rows if row["series"] == "network")
    assert counts == 2000  # those outside of the axis too
    energy = table["true_energy"]
    inside = (energy >= 0.03) & (energy < 0.035)
    panel = "half-width of time error (ps) against true energy (MeV)"
    (row,) = [r for r in numbers if (r["panel"], r["series"], r["low"]) == (panel, "network", 30)]
    part = {name: torch.from_numpy(one[inside]) for name, one in table.items()}
    assert row["value"] == pytest.approx(1e3 * float(resolutions(part)["timing_res_68pct"]))
    assert row["events"] == inside.sum()
    assert float(metrics["timing_res_68pct"]) == pytest.approx(0.1, rel=0.1)


def test_the_energy_is_fitted_in_the_window_of_the_signal() -> None:
    table = judged(columns(6000))
    rows = fit_rows(plates(table))
    names = {(row["figure"], row["fit"], row["parameter"]): row for row in rows}
    energy = table["true_energy"]
    window = select(table, (energy >= 0.05) & (energy <= 0.055))
    core = names["energy_signal", "core", "sigma"]
    assert core["events"] <= len(window["true_u"])
    assert core["value"] == pytest.approx(np.std(error_of(window, "energy")), rel=0.15)
    # errors of 1 MeV at every energy are 0.1 % GeV / E
    law = names["energy", "sigma/E", "c"]
    assert law["value"] == pytest.approx(0.1, abs=4 * law["error"] + 0.01)
    assert all(row["fault"] == "" for row in rows)


def test_coverage_of_right_uncertainties_is_nominal() -> None:
    table = columns(20_000)
    assert calibrated(table) == ["u", "v", "w", "energy", "timing", "direction"]
    for name in calibrated(table):
        found = coverage(table, name)
        error = np.sqrt(SHARES * (1 - SHARES) / 20_000)
        assert abs(found - SHARES) == pytest.approx(0 * error, abs=5 * error.max()), name


def test_too_small_uncertainties_cover_too_little() -> None:
    table = columns(5000)
    table["sig_u"] = table["sig_u"] / 2
    # of a normal distribution within half a standard deviation
    place = int(np.argmin(abs(SHARES - 0.65)))
    assert coverage(table, "u")[place] == pytest.approx(0.36, abs=0.03)


def test_the_summary_of_the_uncertainties_is_that_of_the_task() -> None:
    table = columns(2000)
    noted = {
        row["series"]: row["value"]
        for row in plates(table)["calibration"].numbers
        if row["panel"] == "summary"
    }
    tensors = {name: torch.from_numpy(one) for name, one in table.items()}
    tensors["kappa"] = concentration_of(tensors["sig_direction"])
    for name in ("w", "direction"):
        for key, value in calibration(tensors, name).items():
            assert noted[key] == pytest.approx(float(value))


def test_a_single_calibrated_quantity_can_be_drawn() -> None:
    table = {n: v for n, v in columns(200).items() if not n.startswith("sig_")}
    assert "calibration" not in figures(table)
    table["sig_direction"] = np.full(200, 12.0)
    figure = figures(table)["calibration"]
    assert len(figure.axes) == 2  # no pulls of directions
    table["sig_u"] = np.full(200, np.nan)
    assert calibrated(table) == ["direction"]


def test_numbers_are_csv_with_all_columns() -> None:
    text = csv_text([{"a": 1, "b": 0.1 + 0.2}, {"a": 2, "c": "x, y"}])
    assert text == 'a,b,c\n1,0.3,\n2,,"x, y"\n'
    plate = plates(columns(400))["position"]
    rows = list(csv.DictReader(StringIO(csv_text(plate.numbers))))
    assert len(rows) == len(plate.numbers)
    assert {"panel", "series", "low", "high", "value"} <= set(rows[0])
    assert {row["series"] for row in rows} == {"network", "conventional", "half-width"}


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (3.14159, 0.0234, "3.142 ± 0.023"),
        (112.4, 4.61, "112.4 ± 4.6"),
        (165.2, 15.0, "165 ± 15"),
        (2.0, 0.0, "2"),
        (2.345, np.nan, "2.35"),
        (np.nan, 0.1, "nan"),
    ],
)
def test_errors_have_two_digits(value: float, error: float, text: str) -> None:
    assert with_error(value, error) == text


def test_histograms_hold_five_half_widths() -> None:
    edges = histogram_edges(Spread(10_000, 1.0, 0.0, 2.0, 0.0))
    assert (edges[0], edges[-1], len(edges)) == (-9.0, 11.0, 61)
    edges = histogram_edges(Spread(40, np.nan, np.nan, 2.0, 0.0))
    assert (edges[0], edges[-1], len(edges)) == (0.0, 6.0, 13)
