import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm
from numpy.typing import NDArray

from sciml.xec.physics.sensors import sensors
from sciml.xec.report.display import (
    Layer,
    display_figure,
    event_layers,
    number_lines,
    scale_of,
)
from sciml.xec.report.unrolled import inner_places, outlines

NUMBERS = {
    **{"true_u": 5.0, "true_v": -20.0, "true_w": 3.0, "true_energy": 0.05283},
    **{"pred_u": 5.3, "pred_v": -19.8, "pred_w": 2.5, "pred_energy": 0.0521},
    **{"pred_ex": -1.0, "pred_ey": 0.0, "pred_ez": 0.0},  # theta 90, phi 0
    "rule_energy": 0.049,
}


def readings() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    distance = np.linalg.norm(sensors().position - [-70.0, -20.0, 5.0], axis=1)
    npho = (1e6 / distance**2).astype(np.float32)
    time = (1e-9 * distance * 1.61 / 29.979).astype(np.float32)
    npho[[3, 4200]] = 1e10
    time[100:120] = 1e10
    return npho, time


def test_counts_are_logarithmic_and_times_linear() -> None:
    npho, time = readings()
    photons, hits = event_layers(npho, time)
    assert photons.logarithmic
    assert not hits.logarithmic
    assert photons.label == "photons"
    assert hits.label == "relative hit time (ns)"
    assert np.isnan(hits.values).sum() == 22  # no hit, or dead
    assert hits.values[0] == pytest.approx(1e9 * time[0], rel=1e-6)
    scale = scale_of(photons)
    assert isinstance(scale, LogNorm)
    assert scale.vmax == npho[npho < 9e9].max()
    assert scale.vmin is not None
    assert scale.vmin >= 1
    scale = scale_of(hits)
    known = hits.values[np.isfinite(hits.values)]
    assert (scale.vmin, scale.vmax) == pytest.approx(np.quantile(known, [0.01, 0.95]))


@pytest.mark.parametrize("value", [0.0, -3.0, np.nan, 1e10])
def test_an_event_without_light_can_be_drawn(value: float) -> None:
    values = np.full(4760, value)
    figure = display_figure([Layer(values, "photons", True), Layer(values, "ns")], {}, title="dark")
    figure.canvas.draw()
    cells = [one for axes in figure.axes for one in axes.collections if one.get_array() is not None]
    assert cells
    for one in cells:
        assert one.norm.vmin < one.norm.vmax


def test_places_are_marked_at_their_positions_in_both_pictures() -> None:
    figure = display_figure(event_layers(*readings()), NUMBERS, title="run 7 event 1")
    assert figure.get_suptitle() == "run 7 event 1"
    truth = inner_places(np.array([5.0, -20.0, 3.0]))
    network = inner_places(np.array([5.3, -19.8, 2.5]))
    pictures = [axes for axes in figure.axes if axes.get_legend()]
    assert len(pictures) == 2
    for axes in pictures:
        marks = {line.get_label(): line for line in axes.lines}
        assert marks["truth"].get_xydata()[0] == pytest.approx(truth)
        assert marks["network"].get_xydata()[0] == pytest.approx(network)
        assert (marks["truth"].get_marker(), marks["network"].get_marker()) == ("*", "x")
        assert "conventional" not in marks  # its place is not known
        close = axes.child_axes[-1]
        (left, right), (low, high) = close.get_xlim(), close.get_ylim()
        assert [(left + right) / 2, (low + high) / 2] == pytest.approx(truth)
        assert (right - left, high - low) == pytest.approx((8.0, 8.0))
    figure.canvas.draw()
    assert not plt.get_fignums()


def test_without_a_place_there_is_no_close_up() -> None:
    figure = display_figure(event_layers(*readings()), {"pred_energy": 0.05}, title="")
    assert all(len(axes.child_axes) <= 1 for axes in figure.axes)  # the colour bar
    assert not [axes for axes in figure.axes if axes.get_legend()]


def test_dead_sensors_are_hatched_and_masked_ones_outlined() -> None:
    npho, time = readings()
    figure = display_figure(event_layers(npho, time), {}, title="", dead=[3, 4200], masked=[7])
    for axes in figure.axes[:2]:
        cells, dead, masked = (c for c in axes.collections if isinstance(c, PolyCollection))
        assert np.ma.getmaskarray(cells.get_array())[[3, 4200]].all()
        assert dead.get_hatch()
        assert not masked.get_hatch()
        drawn = [path.vertices[:6] for path in dead.get_paths()]
        assert np.array(drawn) == pytest.approx(outlines()[[3, 4200]])
        texts = [text.get_text() for text in axes.get_legend().get_texts()]
        assert texts == ["2 dead", "1 masked"]


def test_numbers_stand_in_columns() -> None:
    head, *lines = number_lines(NUMBERS)
    assert head.split() == [
        *("E", "(MeV)", "t", "(ns)", "u", "(cm)", "v", "(cm)", "w", "(cm)"),
        *("θ", "(°)", "φ", "(°)"),
    ]
    assert [line.split() for line in lines] == [
        ["truth", "52.83", "5.00", "-20.00", "3.00"],
        ["network", "52.10", "5.30", "-19.80", "2.50", "90.0", "0.0"],
        ["conventional", "49.00"],
    ]
    assert {len(line) for line in lines} == {len(head)}
    assert number_lines({}) == []
