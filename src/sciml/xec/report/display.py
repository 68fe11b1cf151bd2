"""One event: the readings of all sensors, where the gamma was, and where it was reconstructed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from sciml.core.report import house_style
from sciml.xec.metrics.resolution import AXES, VECTOR
from sciml.xec.physics.constants import INVALID_FROM
from sciml.xec.physics.coordinates import emission_angles
from sciml.xec.report.resolution import Floats
from sciml.xec.report.unrolled import (
    LIMITS,
    draw_colorbar,
    draw_unrolled,
    inner_places,
    mark_sensors,
)

Ids = Sequence[int] | NDArray[np.integer[Any]]
DECADES = 3.5  # of the logarithmic scale below the largest value
TAILS = (0.01, 0.95)  # shares of the values that the linear scale ends at
CLOSE = 4.0  # cm around the interaction in the close-up
CORNER = 42.0  # cm of the drawing, side of the close-up
STARTS = {"truth": "true_", "network": "pred_", "conventional": "rule_"}
MARKS = {  # marker, its size in points, colour
    "truth": ("*", 12.0, "#E69F00"),
    "network": ("x", 9.0, "#D55E00"),
    "conventional": ("+", 10.0, "#CC79A7"),
}
NUMBERS = {  # head of the column, unit of the column in that of the values, digits
    "energy": ("E (MeV)", 1000.0, 2),
    "timing": ("t (ns)", 1.0, 3),
    "u": ("u (cm)", 1.0, 2),
    "v": ("v (cm)", 1.0, 2),
    "w": ("w (cm)", 1.0, 2),
    "theta": ("θ (°)", 1.0, 1),
    "phi": ("φ (°)", 1.0, 1),
}


@dataclass(frozen=True)
class Layer:
    """Values of all sensors that are drawn as one picture of the detector.

    Args:
        values: ``(4760,)``; NaN or 1e10 where there is none.
        label: Quantity and unit.
        logarithmic: Whether the colours have a logarithmic scale.
        cmap: Colours.
    """

    values: NDArray[np.floating]
    label: str
    logarithmic: bool = False
    cmap: str = "viridis"


def event_layers(npho: NDArray[np.floating], relative_time: NDArray[np.floating]) -> list[Layer]:
    """Pictures of the photon counts and of the hit times.

    Args:
        npho: Photons, ``(4760,)``.
        relative_time: s, same shape.
    """
    hit = (abs(npho) < INVALID_FROM) & (abs(relative_time) < INVALID_FROM)
    time = np.where(hit, 1e9 * relative_time.astype(np.float64), np.nan)
    return [
        Layer(npho, "photons", logarithmic=True),
        Layer(time, "relative hit time (ns)", cmap="cividis"),
    ]


def display_figure(
    layers: Sequence[Layer],
    numbers: Mapping[str, float],
    *,
    title: str,
    dead: Ids = (),
    masked: Ids = (),
) -> Figure:
    """Pictures of an event side by side, above its true and reconstructed numbers.

    Args:
        layers: Pictures.
        numbers: ``true_…``, ``pred_…`` and ``rule_…`` with the names and units of the task, as far
            as they are known; a place is marked.
        title: Heading.
        dead: Sensors that are hatched.
        masked: Sensors that are outlined.
    """
    lines = number_lines(numbers)
    with house_style():
        height = 6.6 + 0.2 * len(lines)
        figure = Figure(figsize=(6.6 * len(layers), height), layout="constrained")
        ratios = (6.6, 0.2 * max(len(lines), 1))
        grid = figure.subplots(2, len(layers), squeeze=False, height_ratios=ratios)
        for axes, layer in zip(grid[0], layers, strict=True):
            cells = _draw_layer(axes, layer, dead, masked)
            draw_colorbar(axes, cells, layer.label)
            marked = _draw_marks(axes, numbers)
            if marked is not None:
                _draw_close_up(axes, marked, layer, dead, masked, numbers)
            if axes.get_legend_handles_labels()[0]:
                place = {"loc": "upper left", "bbox_to_anchor": (-0.03, 1.0)}
                axes.legend(fontsize="small", handletextpad=0.4, **place)
        for axes in grid[1]:
            axes.set_axis_off()
        text = "\n".join(lines)
        grid[1, 0].text(0, 1, text, family="monospace", va="top", transform=grid[1, 0].transAxes)
        figure.suptitle(title, x=0.01, ha="left")
    return figure


def number_lines(numbers: Mapping[str, float]) -> list[str]:
    """A head and a line for the truth and every method with known numbers, in columns.

    Args:
        numbers: See `display_figure`.
    """
    every = dict(numbers)
    for start in STARTS.values():
        vector = np.array([numbers.get(start + axis, np.nan) for axis in VECTOR])
        if np.isfinite(vector).all():
            pair = emission_angles(vector).tolist()
            every |= {f"{start}{name}": x for name, x in zip(("theta", "phi"), pair, strict=True)}
    lines = []
    for label, start in STARTS.items():
        values = [every.get(start + name, np.nan) for name in NUMBERS]
        if np.isfinite(values).any():
            cells = [
                f"{factor * value:10.{digits}f}" if np.isfinite(value) else f"{'':10}"
                for value, (_, factor, digits) in zip(values, NUMBERS.values(), strict=True)
            ]
            lines.append(f"{label:12}{''.join(cells)}")
    heads = "".join(f"{head:>10}" for head, _, _ in NUMBERS.values())
    return [f"{'':12}{heads}", *lines] if lines else []


def scale_of(layer: Layer) -> Normalize:
    """Range of the colours of a picture.

    Args:
        layer: What is drawn.
    """
    known: Floats = layer.values[abs(layer.values) < INVALID_FROM].astype(np.float64)
    if layer.logarithmic:
        top = max(float(known.max(initial=1.0)), 10.0)
        return LogNorm(max(1.0, top / 10**DECADES), top)
    if not len(known):
        return Normalize(0.0, 1.0)
    low, high = np.quantile(known, TAILS).tolist()
    return Normalize(low, high if high > low else low + 1.0)


def _draw_layer(axes: Axes, layer: Layer, dead: Ids, masked: Ids, titles: bool = True) -> Any:
    cells = draw_unrolled(axes, layer.values, norm=scale_of(layer), cmap=layer.cmap, titles=titles)
    if len(dead):
        mark_sensors(axes, dead, color="0.35", hatch="/////", label=f"{len(dead)} dead")
    if len(masked):
        mark_sensors(axes, masked, color="#D55E00", label=f"{len(masked)} masked")
    return cells


def _draw_marks(axes: Axes, numbers: Mapping[str, float]) -> Floats | None:
    """Mark the places that are known, and tell the first one in the drawing, ``(2,)``."""
    outline = [effects.withStroke(linewidth=3.5, foreground="white")]
    first = None
    for label, start in STARTS.items():
        place = np.array([numbers.get(start + axis, np.nan) for axis in AXES])
        if np.isfinite(place).all():
            x, y = at = inner_places(place)
            marker, size, color = MARKS[label]
            (mark,) = axes.plot(x, y, marker, color=color, markersize=size, label=label, zorder=3)
            mark.set(path_effects=outline, markeredgewidth=1.0 if marker == "*" else 2.0)
            first = at if first is None else first
    return first


def _draw_close_up(
    axes: Axes,
    middle: Floats,
    layer: Layer,
    dead: Ids,
    masked: Ids,
    numbers: Mapping[str, float],
) -> None:
    """The surroundings of a place on the inner face, in the free corner below the outer face."""
    right, bottom = LIMITS[0][1], LIMITS[1][0]
    corner = (right - CORNER - 2, bottom + 4, CORNER, CORNER)
    inset = axes.inset_axes(corner, transform=axes.transData)
    _draw_layer(inset, layer, dead, masked, titles=False)
    _draw_marks(inset, numbers)
    inset.set_axis_on()
    inset.spines[:].set_visible(True)
    (x, y), half = middle, CLOSE
    inset.set(xlim=(x - half, x + half), ylim=(y - half, y + half), xticks=[], yticks=[])
    inset.set_title(f"{2 * CLOSE:g} cm wide", fontsize="small")
    box = Rectangle((x - half, y - half), 2 * half, 2 * half, fill=False, linewidth=0.8, zorder=3)
    axes.add_patch(box)
