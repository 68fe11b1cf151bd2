import csv
from io import StringIO
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from rich.console import Console

from sciml.astrochem.report import (
    Track,
    chemical_name,
    comparison_table,
    species_figure,
    species_table,
    step_figure,
    step_table,
    tracer_table,
    track_figure,
)
from sciml.core.report import house_style

SPECIES = ("#CO", "#H2O", "C", "C+", "CO", "E-", "H", "H2", "O")
ELEMENTS = ("H", "C", "O")


@pytest.fixture(autouse=True)
def _closed() -> object:
    with house_style():
        yield
    plt.close("all")


def track(steps: int = 30) -> Track:
    rng = np.random.default_rng(0)
    true = 10 ** rng.uniform(-20, -1, (steps + 1, len(SPECIES)))
    physics = np.stack([np.logspace(3, 6, steps + 1), *10 ** rng.uniform(0, 1, (3, steps + 1))], 1)
    predicted = true[1:] * 2
    return Track("tracer 7", 1e4 * np.arange(steps + 1), physics, true, predicted, SPECIES)


def overlaps(figure: Figure) -> list[str]:
    """Tick labels, axis labels and legends that lie on one another."""
    figure.canvas.draw()
    shown: list[Artist] = []
    for axes in figure.axes:
        shown += [axes.xaxis.label, axes.yaxis.label]
        shown += [one for one in axes.get_children() if isinstance(one, Legend)]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [one for one in axis.get_major_ticks() if low <= one.get_loc() <= high]
            shown += [one.label1 for one in ticks if one.label1.get_visible()]
    boxes = [one.get_window_extent() for one in shown]
    return [
        f"{shown[i]} on {shown[j]}"
        for i, j in combinations(range(len(boxes)), 2)
        if boxes[i].width and boxes[j].width and boxes[i].overlaps(boxes[j])
    ]


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("CH3OH", "CH$_{3}$OH"),
        ("HCO+", "HCO$^{+}$"),
        ("E-", "e$^-$"),
        ("#HE", "He ice"),
        ("MGH", "MgH"),
        ("13CO", "$^{13}$CO"),
        ("H13CO+", "H$^{13}$CO$^{+}$"),
        ("$CO", "CO ice"),
    ],
)
def test_species_are_printed_as_chemists_write_them(name: str, printed: str) -> None:
    assert chemical_name(name) == printed


def test_layers_of_the_ice_are_told_apart_where_there_are_two() -> None:
    assert chemical_name("@H2O", layered=True) == "H$_{2}$O bulk"
    assert chemical_name("#H2O", layered=True) == "H$_{2}$O surface"


def test_tracks_show_truth_and_prediction_of_each_species() -> None:
    figure = track_figure(track(), ("CO", "C+"))
    upper = figure.axes[0]
    assert upper.get_yscale() == "log"
    assert [line.get_linestyle() for line in upper.lines] == ["-", "--"] * 2
    solid, dashed = upper.lines[:2]
    assert solid.get_color() == dashed.get_color()
    assert dashed.get_xdata()[0] == pytest.approx(0.01)  # the first prediction is a step later
    np.testing.assert_allclose(dashed.get_ydata(), 2 * solid.get_ydata()[1:])


def test_conditions_hold_until_the_next_row() -> None:
    panel = track_figure(track()).axes[1]
    assert panel.lines[0].get_drawstyle() == "steps-post"
    assert len(panel.lines[0].get_xdata()) == 30


def test_labels_do_not_overlap() -> None:
    errors = np.random.default_rng(1).uniform(0.1, 1, (8, 40))
    for figure in (
        track_figure(track()),
        step_figure({"model": errors, "knn": 2 * errors, "persistence": 20 * errors}),
        species_figure(SPECIES, ELEMENTS, errors.mean(0)[: len(SPECIES)]),
    ):
        assert not overlaps(figure)


def test_constant_conditions_are_drawn() -> None:
    still = track()
    still.physics[:] = (1e4, 1.0, 5.0, 10.0)
    figure = track_figure(still)
    assert [label.get_text() for label in figure.axes[4].get_yticklabels()] == ["10"]


def test_an_unknown_species_is_named() -> None:
    with pytest.raises(ValueError, match="NH3 is no species of it"):
        track_figure(track(), ("CO", "NH3"))


def test_step_figure_has_room_for_one_step() -> None:
    axes = step_figure({"model": np.ones((3, 1))}).axes[0]
    assert axes.get_xlim() == (1, 2)


def test_step_figure_shows_the_median_of_the_tracers_that_are_left() -> None:
    errors = np.array([[0.1, 0.3, 0.5], [0.3, 0.5, np.nan], [0.2, 0.9, np.nan]])
    axes = step_figure({"model": errors}).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.2, 0.5, 0.5])
    assert axes.get_ylabel() == "mean absolute error (dex)"


def test_species_figure_begins_with_the_worst() -> None:
    errors = np.arange(1.0, 1 + len(SPECIES))
    left, right = species_figure(SPECIES, ELEMENTS, errors).axes
    assert [label.get_text() for label in left.get_yticklabels()][:2] == ["O", "H$_{2}$"]
    widths = [patch.get_width() for patch in right.patches]
    # all, gas, ice, ions (C+ and E-)
    assert widths == pytest.approx([5, errors[2:].mean(), 1.5, 5])


def test_comparison_has_a_row_for_what_some_model_reports() -> None:
    table = comparison_table("rollout", {"model": {"mae_dex": 0.0712}, "knn": {"frac_2x": 0.5}})
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table)
    text = captured.get()
    assert "0.0712" in text
    assert "frac_2x" in text
    assert "rmse_dex" not in text


def test_tables_are_read_back_by_csv() -> None:
    rows = list(csv.DictReader(StringIO(species_table(("C", "O"), {"mae_dex": [0.25, 0.5]}))))
    assert rows == [{"species": "C", "mae_dex": "0.25"}, {"species": "O", "mae_dex": "0.5"}]
    rows = list(csv.DictReader(StringIO(step_table({"model": [0.1], "knn": [0.2]}))))
    assert rows == [{"step": "1", "model": "0.1", "knn": "0.2"}]


def test_tracers_are_listed_by_number() -> None:
    text = tracer_table([7, 2], {"mae_dex": [0.5, 0.25], "unstable": [1.0, 0.0]})
    assert text == "tracer,mae_dex,unstable\n2,0.25,0\n7,0.5,1\n"
