"""The detector unrolled into a plane, one value a sensor (lengths of the drawing in cm).

Seen from the axis and cut open: the inner face in the middle with z growing to the left, downstream
left and upstream right of it, the outer face behind upstream; top above and bottom below. The angle
alpha grows upwards everywhere, on the scale of the inner surface, so that the same height is the
same angle in the four faces of the middle row; the outer face is shrunk in z by as much. Sensors of
the top and bottom faces keep their true distances.
"""

import functools
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap, LogNorm, Normalize
from numpy.typing import NDArray

from sciml.xec.physics.constants import (
    CENTRE_PITCH,
    COARSE_PITCH,
    COARSE_SHAPE,
    HALF_ANGLE,
    HEX_PITCH,
    HEX_ROWS,
    INNER_PITCH,
    INNER_SHAPE,
    INVALID_FROM,
    OUTER_RADIUS,
    RADIUS,
    SENSORS,
    SIDE_PITCH,
    SIDE_SHAPE,
    SIDE_STEP,
)
from sciml.xec.physics.hexagon import hex_places
from sciml.xec.physics.images import (
    hex_ids,
    inner_image,
    outer_centre,
    outer_coarse,
    plane_image,
)
from sciml.xec.physics.sensors import sensors

Floats = NDArray[np.float64]
GAP = 8.0  # between faces
SCALE = float(np.radians(RADIUS))  # height of a degree
SHRINK = RADIUS / OUTER_RADIUS
SIDE_WIDTH = float(np.hypot(*SIDE_STEP))  # of a sensor of the side faces
HALF_WIDTH = INNER_SHAPE[1] * INNER_PITCH[1] / 2  # of the inner face
HALF_HEIGHT = HALF_ANGLE * SCALE
SIDE_START = HALF_WIDTH + GAP
SIDE_END = SIDE_START + SIDE_SHAPE[1] * SIDE_WIDTH
OUTER_HALF = COARSE_SHAPE[1] * COARSE_PITCH[1] * SHRINK / 2
OUTER_MIDDLE = SIDE_END + GAP + OUTER_HALF
# sides of the hexagon around a sensor: the points that are as near to a neighbour
HEX_SHOULDER = (HEX_PITCH[0] ** 2 - (HEX_PITCH[1] / 2) ** 2) / (2 * HEX_PITCH[0])
HEX_TIP = HEX_PITCH[0] - HEX_SHOULDER
HEX_START = HALF_HEIGHT + GAP + HEX_TIP
HEX_END = HEX_START + (len(HEX_ROWS) - 1) * HEX_PITCH[0] + HEX_TIP
TITLES = {
    "downstream": (-(SIDE_START + SIDE_END) / 2, HALF_HEIGHT + 1),
    "inner": (0.0, HALF_HEIGHT + 1),
    "upstream": ((SIDE_START + SIDE_END) / 2, HALF_HEIGHT + 1),
    "outer": (OUTER_MIDDLE, HALF_HEIGHT + 1),
    "top": (0.0, HEX_END + 1),
    "bottom": (0.0, -HEX_END - 6),
}
LIMITS = ((-SIDE_END - 2, OUTER_MIDDLE + OUTER_HALF + 2), (-HEX_END - 7, HEX_END + 7))
ABSENT = "0.88"  # colour of a sensor without a value


def draw_unrolled(
    axes: Axes,
    values: NDArray[np.floating],
    *,
    norm: Normalize | None = None,
    cmap: str | Colormap = "viridis",
    titles: bool = True,
) -> PolyCollection:
    """Colour all sensors by their values.

    Sensors without a value, NaN or 1e10, are grey. On a logarithmic scale, values below its lower
    end have the colour of the end, also negative ones.

    Args:
        axes: Where to draw; its frame is taken away.
        values: One of each sensor, ``(4760,)``.
        norm: Scale of the colours; by default linear over the values.
        cmap: Colours.
        titles: Whether to name the faces.

    Returns:
        The coloured cells, for a colour bar or to change their values.

    Raises:
        ValueError: Unless there are 4760 values.
    """
    if values.shape != (SENSORS,):
        raise ValueError(
            f"values to draw have shape {values.shape}; give one for each of {SENSORS}"
        )
    shown = np.ma.masked_invalid(np.where(abs(values) > INVALID_FROM, np.nan, values))
    if isinstance(norm, LogNorm) and norm.vmin is not None:
        shown = np.ma.clip(shown, norm.vmin, None)
    colours = mpl.colormaps[cmap] if isinstance(cmap, str) else cmap
    cells = PolyCollection(
        list(outlines()),
        array=shown,
        norm=norm,
        cmap=colours.with_extremes(bad=ABSENT),
        edgecolors="face",  # without these, the page shines through between cells
        linewidths=0.2,
    )
    axes.add_collection(cells)
    axes.set(xlim=LIMITS[0], ylim=LIMITS[1], aspect="equal")
    axes.set_axis_off()
    if titles:
        for name, (x, y) in TITLES.items():
            axes.text(x, y, name, ha="center", va="bottom")
        _draw_compass(axes)
    return cells


def mark_sensors(
    axes: Axes,
    ids: Sequence[int] | NDArray[np.integer],
    *,
    color: str = "black",
    hatch: str | None = None,
    label: str | None = None,
) -> PolyCollection:
    """Outline or hatch sensors in a drawing that `draw_unrolled` made.

    Args:
        axes: That of the drawing.
        ids: Which sensors.
        color: Of outline and hatching.
        hatch: Matplotlib's pattern; without one there is only the outline.
        label: Entry of the legend.
    """
    chosen = np.asarray(ids, dtype=np.int64)
    marks = PolyCollection(
        list(outlines()[chosen]),
        facecolors="none",
        edgecolors=color,
        linewidths=0.6,
        hatch=hatch,
        label=label,
        zorder=2,
    )
    axes.add_collection(marks)
    return marks


def draw_colorbar(axes: Axes, cells: PolyCollection, label: str) -> None:
    """A colour bar in the free corner of a drawing, above the outer face.

    Args:
        axes: That of the drawing.
        cells: What `draw_unrolled` returned.
        label: Quantity and unit.
    """
    left = OUTER_MIDDLE - OUTER_HALF - GAP
    place = (left, HEX_END - 6, LIMITS[0][1] - 4 - left, 5)
    inset = axes.inset_axes(place, transform=axes.transData)
    axes.figure.colorbar(cells, cax=inset, orientation="horizontal", label=label)


def inner_places(uvw: NDArray[np.floating]) -> Floats:
    """Where places of the detector lie in the drawing, projected onto the inner face.

    Args:
        uvw: Local coordinates in cm, ``(..., 3)``.

    Returns:
        ``(..., 2)``.
    """
    return np.stack([-uvw[..., 0], uvw[..., 1]], -1).astype(np.float64)


@functools.cache
def outlines() -> Floats:
    """Corners of the cell of every sensor in the drawing, ``(4760, 6, 2)``."""
    cells = np.empty((SENSORS, 6, 2))
    place, width, height = np.empty((SENSORS, 2)), np.empty(SENSORS), np.empty(SENSORS)
    x, y, z = sensors().position.T
    place[:, 0], place[:, 1] = -z, np.degrees(np.arctan2(y, -x)) * SCALE
    for ids, (angle, length) in (
        (inner_image(), INNER_PITCH),
        (outer_coarse(), (COARSE_PITCH[0], COARSE_PITCH[1] * SHRINK)),
        (outer_centre(), (CENTRE_PITCH[0], CENTRE_PITCH[1] * SHRINK)),
        (plane_image("us"), (SIDE_PITCH, SIDE_WIDTH)),
        (plane_image("ds"), (SIDE_PITCH, SIDE_WIDTH)),
    ):
        width[ids], height[ids] = length, angle * SCALE
    steps = SIDE_START + SIDE_WIDTH * (np.arange(SIDE_SHAPE[1]) + 0.5)
    place[plane_image("us"), 0], place[plane_image("ds"), 0] = steps, -steps
    outer = np.union1d(outer_coarse(), outer_centre())
    place[outer, 0] = OUTER_MIDDLE + z[outer] * SHRINK
    rectangle = np.array([(-1, -1), (1, -1), (1, -1), (1, 1), (-1, 1), (-1, 1)]) / 2
    cells = place[:, None] + rectangle * np.stack([width, height], -1)[:, None]
    across, up = HEX_PITCH[1] / 2, HEX_SHOULDER
    hexagon = [(-across, -up), (0, -HEX_TIP), (across, -up), (across, up), (0, HEX_TIP)]
    rows, along = hex_places().T
    middle = np.stack([-along * HEX_PITCH[1], HEX_START + rows * HEX_PITCH[0]], -1)
    top = middle[:, None] + np.array([*hexagon, (-across, up)])
    cells[hex_ids("top")], cells[hex_ids("bot")] = top, top * (1.0, -1.0)
    cells.setflags(write=False)
    return cells


def _draw_compass(axes: Axes) -> None:
    """Directions of growing u and v, in a free corner."""
    x, y, length = -SIDE_END + 26, -HEX_END + 4, 12.0
    style = {"arrowstyle": "->", "shrinkA": 0, "shrinkB": 0, "linewidth": 0.8}
    for end in ((x - length, y), (x, y + length)):
        axes.annotate("", end, (x, y), arrowprops=style)
    axes.text(x - length - 1, y, "u = z", fontsize="small", ha="right", va="center")
    axes.text(x, y + length + 1, "v = Rα", fontsize="small", ha="center", va="bottom")
