import csv
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm

from sciml.cli import call_verb, verb_function
from sciml.core.report import house_style
from sciml.xec.physics.coordinates import to_uvw, to_xyz
from sciml.xec.physics.hexagon import hex_graph
from sciml.xec.physics.images import hex_ids
from sciml.xec.physics.sensors import face_ids, sensors
from sciml.xec.report.detector import detector_figure
from sciml.xec.report.unrolled import (
    draw_colorbar,
    draw_unrolled,
    inner_places,
    mark_sensors,
    outlines,
)

BEGINNINGS = {".pdf": b"%PDF", ".png": b"\x89PNG", ".svg": b"<?xml"}


@pytest.fixture
def axes() -> Any:
    with house_style():
        yield plt.subplots(figsize=(6, 6))[1]
    plt.close("all")


def run(*words: str) -> Any:
    return call_verb(verb_function("xec", "geometry"), "sciml xec geometry", words)


def centres(ids: np.ndarray) -> np.ndarray:
    return (outlines()[ids].min(1) + outlines()[ids].max(1)) / 2


def areas() -> np.ndarray:
    x, y = np.moveaxis(outlines(), -1, 0)
    return abs((x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1)) / 2


def test_the_table_holds_every_sensor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "geometry.csv"
    assert run(f"--out={out}") == out
    assert "4092 inner, 144 us, 144 ds, 234 outer, 73 top, 73 bot" in capsys.readouterr().out
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "face", "type", "row", "col", "x", "y", "z", "nx", "ny", "nz"]
    assert [int(row["id"]) for row in rows] == list(range(4760))
    table = sensors()
    for name, values in (("face", table.face), ("row", table.row), ("col", table.col)):
        assert [int(row[name]) for row in rows] == values.tolist()
    position = [[float(row[axis]) for axis in "xyz"] for row in rows]
    normal = [[float(row[f"n{axis}"]) for axis in "xyz"] for row in rows]
    assert np.array(position) == pytest.approx(table.position, abs=5.1e-6)
    assert np.array(normal) == pytest.approx(table.normal, abs=1e-9)
    assert [row["type"] for row in rows] == ["sipm"] * 4092 + ["pmt"] * 668
    assert "-0.00000," not in out.read_text()
    assert [path.name for path in out.parent.iterdir()] == ["geometry.csv"]


def test_rows_by_hand(tmp_path: Path) -> None:
    run(f"--out={tmp_path / 'geometry.csv'}")
    lines = (tmp_path / "geometry.csv").read_text().splitlines()
    # row 46 of the inner face is at alpha 0, column 0 at z = -21.5 x 1.5097721
    assert lines[1 + 46 * 44].startswith("2024,0,sipm,46,0,-64.97000,0.00000,-32.46010,-1.0")
    # the last one of the centre patch: alpha -2.5 x 5.23 x 2/3 degrees, z 6.2
    assert lines[4760].startswith("4759,3,pmt,5,3,-105.04")
    assert ",6.20000," in lines[4760]


@pytest.mark.parametrize("ending", BEGINNINGS)
def test_the_figure_is_written_beside_the_table(tmp_path: Path, ending: str) -> None:
    figure = tmp_path / "plots" / f"detector{ending}"
    run(f"--out={tmp_path / 'geometry.csv'}", f"--figure={figure}")
    assert figure.read_bytes().startswith(BEGINNINGS[ending])
    assert [path.name for path in figure.parent.iterdir()] == [figure.name]
    assert not plt.get_fignums()


def test_a_figure_that_is_no_picture_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"map\.txt is no picture; end --figure with \.pdf, \.png"):
        run(f"--out={tmp_path / 'geometry.csv'}", f"--figure={tmp_path / 'map.txt'}")
    assert not list(tmp_path.iterdir())


def test_the_figure_names_photomultipliers_and_faces() -> None:
    with house_style():
        texts = {text.get_text() for text in detector_figure().axes[0].texts}
    assert {str(number) for number in range(4092, 4760)} <= texts
    assert {"inner", "outer", "upstream", "downstream", "top", "bottom"} <= texts
    assert {"0", "43", "4048", "4091"} <= texts  # corners of the inner face
    plt.close("all")


def test_cells_of_a_face_touch_and_do_not_overlap() -> None:
    for face in ("inner", "us", "ds", "outer"):
        corners = outlines()[face_ids(face)]
        width, height = np.ptp(corners.reshape(-1, 2), axis=0)
        # the centre patch is 31.0 cm wide where the coarse cells leave 31.07
        assert areas()[face_ids(face)].sum() == pytest.approx(width * height, rel=2e-4)
    assert areas()[hex_ids("top")] == pytest.approx(6.12 * 6.91)  # of a cell of the lattice


def test_faces_lie_side_by_side() -> None:
    boxes = {}
    for face in ("inner", "us", "ds", "outer", "top", "bot"):
        corners = outlines()[face_ids(face)].reshape(-1, 2)
        boxes[face] = (*corners.min(0), *corners.max(0))
    for left, right in (("ds", "inner"), ("inner", "us"), ("us", "outer")):
        assert boxes[left][2] < boxes[right][0]
    assert boxes["bot"][3] < boxes["inner"][1]
    assert boxes["inner"][3] < boxes["top"][1]
    for face in ("us", "ds", "outer"):  # all over the same angles
        assert boxes[face][1::2] == pytest.approx(boxes["inner"][1::2], abs=0.01)


def test_neighbours_in_the_detector_are_neighbours_in_the_drawing() -> None:
    position = sensors().position
    for face, side in (("us", 1), ("ds", -1)):
        ids = face_ids(face).reshape(24, 6)
        assert (np.diff(side * centres(ids[0])[:, 0]) > 0).all()  # outwards, away from the inner
        assert (np.diff(centres(ids[:, 0])[:, 1]) < 0).all()
    inner, outer = face_ids("inner"), face_ids("outer")
    assert np.corrcoef(centres(inner)[:, 0], position[inner, 2])[0, 1] == pytest.approx(-1)
    assert np.corrcoef(centres(outer)[:, 0], position[outer, 2])[0, 1] == pytest.approx(1)
    first, second, _ = hex_graph()
    for face in ("top", "bot"):
        drawn = centres(hex_ids(face))
        true = position[hex_ids(face)]
        distance = np.linalg.norm(drawn[first] - drawn[second], axis=1)
        assert distance == pytest.approx(np.linalg.norm(true[first] - true[second], axis=1))
        nearest = abs(drawn[:, 1]).reshape(-1)
        assert (np.diff(nearest[[0, 11, 23, 34, 46, 59]]) > 0).all()  # outwards from the inner face


def test_places_of_events_lie_on_their_sensors() -> None:
    ids = face_ids("inner")
    uvw = to_uvw(sensors().position[ids])
    assert inner_places(uvw) == pytest.approx(centres(ids), abs=1e-9)
    assert inner_places(np.array([3.0, 4.0, 5.0])) == pytest.approx([-3.0, 4.0])


def test_values_decide_the_colours(axes: Axes) -> None:
    values = np.linspace(1.0, 1000.0, 4760)
    values[:3] = np.nan, 1e10, -5.0
    cells = draw_unrolled(axes, values, norm=LogNorm(1, 1000))
    draw_colorbar(axes, cells, "photons")
    axes.figure.canvas.draw()
    colours = cells.get_facecolor()
    grey = (0.88, 0.88, 0.88, 1.0)
    assert colours[:2] == pytest.approx(np.array([grey, grey]), abs=0.01)
    lowest, highest = plt.get_cmap("viridis")([0.0, 1.0])
    assert colours[2] == pytest.approx(lowest, abs=0.01)
    assert colours[-1] == pytest.approx(highest, abs=0.01)
    assert axes.child_axes[0].get_xlabel() == "photons"


def test_marks_are_outlines_of_their_sensors(axes: Axes) -> None:
    draw_unrolled(axes, np.zeros(4760), titles=False)
    assert not axes.texts
    marks = mark_sensors(axes, [7, 4600], hatch="///", label="dead")
    assert isinstance(marks, PolyCollection)
    drawn = [path.vertices[:6] for path in marks.get_paths()]
    assert np.array(drawn) == pytest.approx(outlines()[[7, 4600]])
    assert marks.get_hatch() == "///"
    assert [text.get_text() for text in axes.legend().get_texts()] == ["dead"]


def test_a_wrong_number_of_values_is_refused(axes: Axes) -> None:
    with pytest.raises(ValueError, match=r"shape \(4092,\); give one for each of 4760"):
        draw_unrolled(axes, np.zeros(4092))


def test_light_is_brightest_where_the_gamma_was() -> None:
    """The drawing's place of an event is that of the sensors nearest to it."""
    uvw = np.array([[10.0, -40.0, 1.0], [-5.0, 20.0, 2.0]])
    near = np.linalg.norm(to_xyz(uvw)[:, None] - sensors().position[:4092], axis=-1).argmin(1)
    assert abs(centres(near) - inner_places(uvw)).max() < 0.8
