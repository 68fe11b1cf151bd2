"""Figures laid out from panels, together with the numbers that are drawn in them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from sciml.xec.report.fits import Fit
from sciml.xec.report.resolution import Spread

Row = dict[str, str | int | float]
SIZE = (3.3, 2.7)  # inches of a panel
FITTED = "black"


class Style(NamedTuple):
    """Look of a series, told from others also without colours."""

    color: str
    marker: str
    line: str
    face: str | None = None


STYLES = {
    "network": Style("#0072B2", "o", "-"),
    "conventional": Style("#D55E00", "s", "--", "white"),
}


@dataclass
class Plate:
    """A figure and the numbers in it.

    Args:
        figure: What is drawn.
        numbers: A row for every point and every bin.
        fits: Curves that were fitted, by panel.
    """

    figure: Figure
    numbers: list[Row] = field(default_factory=list)
    fits: list[tuple[str, Fit]] = field(default_factory=list)

    def note(self, panel: str, series: str, ends: tuple[float, float], numbers: Row) -> None:
        """Keep the numbers of a point.

        Args:
            panel: Where it is drawn.
            series: What it belongs to.
            ends: Of its bin.
            numbers: Value, error and events, as far as there are such.
        """
        place: Row = {"panel": panel, "series": series, "low": ends[0], "high": ends[1]}
        self.numbers.append(place | numbers)


Panel = Callable[[Plate, Axes], None]


def lay_out(panels: Sequence[Panel | None], title: str, across: int = 3) -> Plate:
    """A figure of panels, row by row; those that are None are left out.

    Args:
        panels: What draws each of them.
        title: Heading.
        across: Panels of a row.
    """
    drawn = [panel for panel in panels if panel is not None]
    across = min(across, len(drawn))
    rows = math.ceil(len(drawn) / across)
    engine = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)  # inches
    figure = Figure(figsize=(SIZE[0] * across, SIZE[1] * rows + 0.3), layout=engine)
    grid = figure.subplots(rows, across, squeeze=False).ravel()
    plate = Plate(figure)
    for panel, axes in zip(drawn, grid, strict=False):
        panel(plate, axes)
    for axes in grid[len(drawn) :]:
        axes.set_axis_off()
    figure.suptitle(title, x=0.01, ha="left")
    return plate


def legend_above(axes: Axes, lines: int) -> None:
    """A legend above what is drawn, of one line in two columns or of several lines.

    Args:
        axes: Their vertical axis begins at 0 and becomes longer.
        lines: Of the legend.
    """
    axes.set_ylim(0, axes.get_ylim()[1] * (1 + 0.13 * lines))
    wide = lines == 1
    axes.legend(loc="upper left" if wide else "upper right", ncols=1 + wide, fontsize="small")


def width_text(about: Spread, unit: str) -> str:
    """A width with its error and unit.

    Args:
        about: What to print.
        unit: Of it.
    """
    gap = "" if unit == "°" else " "
    return f"{with_error(about.width, about.width_error)}{gap}{unit}"


def with_error(value: float, error: float) -> str:
    """A number with its error, to two digits of the error.

    Args:
        value: The number.
        error: NaN or 0 where there is none.
    """
    if not error > 0 or not math.isfinite(value):
        return f"{value:.3g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"
