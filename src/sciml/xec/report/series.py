"""Points, bands, histograms and curves of a panel."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from sciml.xec.report.fits import Fit, tailed_density
from sciml.xec.report.plate import FITTED, STYLES, Plate, Row, Style, with_error
from sciml.xec.report.resolution import Bin, Floats, Spread

SHOWN = 5.0  # half-widths to each side of a distribution
MOST_BINS = 60
PLACES = ("low", "high", "middle")


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
