"""Panels that figures of gammas are made of, and the numbers that are drawn in them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from sciml.xec.report.fits import Fit, tailed_density
from sciml.xec.report.resolution import (
    QUANTITIES,
    Bin,
    Columns,
    Floats,
    Spread,
    angles,
    error_of,
    in_bins,
    known_methods,
    spread,
)

Row = dict[str, str | int | float]
SIZE = (3.3, 2.7)  # inches of a panel
SHOWN = 5.0  # half-widths to each side of a distribution
MOST_BINS = 60
CLIPPED = 4.0  # a method worse than the network by more leaves the panel
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


@dataclass(frozen=True)
class Variable:
    """What errors are drawn against.

    Args:
        label: Of the axis.
        edges: Of the bins, in the unit of the axis.
        factor: Such units in that of the columns.
    """

    label: str
    edges: Floats
    factor: float = 1.0


VARIABLES = {
    "u": Variable("true u (cm)", np.linspace(-23.9, 23.9, 9)),
    "v": Variable("true v (cm)", np.linspace(-67.9, 67.9, 11)),
    "w": Variable("true w (cm)", np.array([0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 30, 41.3])),
    "energy": Variable("true energy (MeV)", np.arange(15.0, 61.0, 5.0), 1000.0),
    "theta": Variable("true θ (°)", np.arange(0.0, 181.0, 10.0)),
    "phi": Variable("true φ (°)", np.arange(-180.0, 181.0, 10.0)),
}


def values_of(columns: Columns, variable: str) -> Floats | None:
    """True values that errors are drawn against, in the unit of the axis; None without any.

    Args:
        columns: Of the events.
        variable: One of `VARIABLES`.
    """
    if variable in {"theta", "phi"}:
        known = "true_ex" in columns
        found = angles(columns, "true_")[:, int(variable == "phi")] if known else None
    else:
        found = columns.get(f"true_{variable}")
    if found is None or not np.isfinite(found).any():
        return None
    return VARIABLES[variable].factor * found


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


def distribution(
    columns: Columns, name: str, fits: Sequence[Callable[[Floats], Fit]] = ()
) -> Panel | None:
    """Panel with the errors of a quantity by all methods, and curves fitted to the network's.

    Args:
        columns: Of the events.
        name: One of `QUANTITIES`.
        fits: What fits them.
    """
    quantity = QUANTITIES[name]
    methods = known_methods(columns, name)
    if "network" not in methods:
        return None

    def draw(plate: Plate, axes: Axes) -> None:
        errors = {label: error_of(columns, name, one) for label, one in methods.items()}
        spreads = {label: spread(one, signed=quantity.signed) for label, one in errors.items()}
        texts = {label: width_text(one, quantity.unit) for label, one in spreads.items()}
        edges = histogram_edges(spreads["network"])
        draw_histograms(plate, axes, errors, edges, quantity.label, texts)
        for fit in fits:
            draw_fit(plate, axes, fit(errors["network"]), edges, quantity.label)
        legend_above(axes, len(texts) + len(fits))

    return draw


def width_against(columns: Columns, name: str, variable: str) -> Panel | None:
    """Panel with the half-width of all methods in bins of a variable.

    Args:
        columns: Of the events.
        name: One of `QUANTITIES`.
        variable: One of `VARIABLES`.
    """
    bins = binned(columns, name, variable)
    if "network" not in bins:
        return None
    quantity, axis = QUANTITIES[name], VARIABLES[variable]

    def draw(plate: Plate, axes: Axes) -> None:
        for label, found in bins.items():
            panel = f"half-width of {quantity.label} against {axis.label}"
            draw_points(plate, axes, found, (panel, label))
        widest = {label: max(one.spread.width for one in found) for label, found in bins.items()}
        top = min(max(widest.values()), CLIPPED * widest["network"])
        axes.set_ylim(0, 1.15 * top or 1.0)
        word = "half-width" if quantity.signed else "quantile"
        axes.set(xlabel=axis.label, ylabel=f"68 % {word}, {quantity.title} ({quantity.unit})")
        legend_above(axes, 1)

    return draw


def bias_against(columns: Columns, name: str, variable: str) -> Panel | None:
    """Panel with median and 68 % range of the errors in bins of a variable.

    Args:
        columns: Of the events.
        name: One of `QUANTITIES`, with a sign.
        variable: One of `VARIABLES`.
    """
    found = binned(columns, name, variable).get("network")
    if not found:
        return None
    quantity, axis = QUANTITIES[name], VARIABLES[variable]

    def draw(plate: Plate, axes: Axes) -> None:
        draw_profile(plate, axes, found, f"{quantity.label} against {axis.label}")
        axes.set(xlabel=axis.label, ylabel=quantity.label)

    return draw


def binned(columns: Columns, name: str, variable: str) -> dict[str, list[Bin]]:
    """Errors of every method in bins of a variable; methods without a bin are left out.

    Args:
        columns: Of the events.
        name: One of `QUANTITIES`.
        variable: One of `VARIABLES`.
    """
    values = values_of(columns, variable)
    if values is None:
        return {}
    edges, signed = VARIABLES[variable].edges, QUANTITIES[name].signed
    found = {
        label: in_bins(values, error_of(columns, name, prefix), edges, signed=signed)
        for label, prefix in known_methods(columns, name).items()
    }
    return {label: bins for label, bins in found.items() if bins}


def legend_above(axes: Axes, lines: int) -> None:
    """A legend above what is drawn, of one line in two columns or of several lines.

    Args:
        axes: Their vertical axis begins at 0 and becomes longer.
        lines: Of the legend.
    """
    axes.set_ylim(0, axes.get_ylim()[1] * (1 + 0.13 * lines))
    wide = lines == 1
    axes.legend(loc="upper left" if wide else "upper right", ncols=1 + wide, fontsize="small")


def draw_points(
    plate: Plate,
    axes: Axes,
    bins: Sequence[Bin],
    place: tuple[str, str],
    *,
    what: Literal["bias", "width"] = "width",
    style: Style | None = None,
) -> None:
    """Points with errors, as wide as their bins.

    Args:
        plate: Keeps the numbers.
        axes: Where to draw.
        bins: Of the points.
        place: Panel and series that the numbers are kept under.
        what: Which number of the errors is drawn.
        style: Colour and marker; by default that of the method that the series is called after.
    """
    low, high, middle = (np.array([getattr(one, n) for one in bins]) for n in PLACES)
    value, error = (np.array([getattr(b.spread, n) for b in bins]) for n in (what, f"{what}_error"))
    chosen = style or STYLES[place[1]]
    axes.errorbar(
        middle,
        value,
        error,
        (middle - low, high - middle),
        linestyle="none",
        elinewidth=0.9,
        color=chosen.color,
        marker=chosen.marker,
        markerfacecolor=chosen.face or chosen.color,
        label=place[1],
    )
    for one, y, dy in zip(bins, value.tolist(), error.tolist(), strict=True):
        row: Row = {"middle": one.middle, "value": y, "error": dy, "events": one.spread.events}
        plate.note(*place, (one.low, one.high), row)


PLACES = ("low", "high", "middle")


def draw_profile(plate: Plate, axes: Axes, bins: Sequence[Bin], panel: str) -> None:
    """Medians of the network's errors on a band of 68 %.

    Args:
        plate: Keeps the numbers.
        axes: Where to draw.
        bins: Errors.
        panel: What the numbers are kept under.
    """
    axes.axhline(0, color="0.6", linewidth=0.8)
    color = STYLES["network"].color
    for number, one in enumerate(bins):
        low, high = one.spread.bias - one.spread.width, one.spread.bias + one.spread.width
        label = "68 % of the events" if not number else None
        box = axes.fill_between([one.low, one.high], low, high, color=color, alpha=0.2, label=label)
        box.set_linewidth(0)
        row: Row = {"value": one.spread.width, "error": one.spread.width_error}
        plate.note(panel, "half-width", (one.low, one.high), row | {"events": one.spread.events})
    draw_points(plate, axes, bins, (panel, "network"), what="bias")
    top = 1.6 * max(abs(one.spread.bias) + one.spread.width for one in bins) or 1.0
    axes.set_ylim(-top, top)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], ["median", labels[0]], fontsize="small", ncols=2, loc="upper left")


def draw_histograms(
    plate: Plate,
    axes: Axes,
    errors: Mapping[str, Floats],
    edges: Floats,
    label: str,
    texts: Mapping[str, str],
) -> None:
    """Distributions on the same bins, the first one filled.

    Args:
        plate: Keeps the counts, also of the events outside.
        axes: Where to draw.
        errors: Of every method.
        edges: Of the bins.
        label: Of the axis.
        texts: What the legend says of every method besides its name.
    """
    open_ended = np.concatenate([[-np.inf], edges, [np.inf]])
    for series, one in errors.items():
        counts = np.histogram(one[np.isfinite(one)], open_ended)[0]
        style = STYLES[series]
        axes.stairs(
            counts[1:-1],
            edges,
            color=style.color,
            linestyle=style.line,
            linewidth=1.2,
            fill=False,
            label=f"{series}: {texts[series]}",
        )
        if series == "network":
            axes.stairs(counts[1:-1], edges, color=style.color, alpha=0.2, fill=True)
        for low, high, count in zip(open_ended, open_ended[1:], counts.tolist(), strict=False):
            plate.note(label, series, (float(low), float(high)), {"value": count})
    axes.set(xlabel=label, ylabel="events", xlim=(edges[0], edges[-1]))


def draw_fit(plate: Plate, axes: Axes, fit: Fit, edges: Floats, panel: str) -> None:
    """A fitted curve on a histogram; one that failed is a line of the legend.

    Args:
        plate: Keeps the fit.
        axes: That of the histogram.
        fit: Of `fit_core` or `fit_tailed`.
        edges: Of the histogram.
        panel: What the fit is kept under.
    """
    plate.fits.append((panel, fit))
    if not fit.succeeded:
        axes.plot([], [], " ", label=f"{fit.name} fit failed: {fit.fault}")
        return
    low, high = max(fit.window[0], edges[0]), min(fit.window[1], edges[-1])
    x = np.linspace(low, high, 200)
    curve = fit.events * (edges[1] - edges[0]) * tailed_density(x, fit)
    style = "-" if fit.name == "core" else ":"
    label = f"{fit.name} fit: σ = {with_error(fit['sigma'], fit.error('sigma'))}"
    axes.plot(x, curve, style, color=FITTED, linewidth=1.2, label=label)


def histogram_edges(about: Spread) -> Floats:
    """Bins of a distribution, as fine as its events allow.

    Args:
        about: Its median and width; without a median it begins at 0.
    """
    count = int(np.clip(1.3 * math.sqrt(about.events), 12, MOST_BINS))
    width = about.width if about.width > 0 else 1.0
    if math.isnan(about.bias):
        return np.linspace(0, 3 * width, count + 1)
    return np.linspace(about.bias - SHOWN * width, about.bias + SHOWN * width, count + 1)


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
