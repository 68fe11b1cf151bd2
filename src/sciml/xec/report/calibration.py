"""Figure of the predicted uncertainties: whether they are as large as the errors (n events)."""

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter
from scipy.special import ndtri

from sciml.xec.metrics.calibration import calibration, concentration_of, cone
from sciml.xec.metrics.resolution import SHARE
from sciml.xec.report.plate import Panel, Plate, Row, Style, lay_out
from sciml.xec.report.resolution import (
    JUDGED,
    LEAST,
    QUANTITIES,
    Columns,
    Floats,
    error_of,
    in_bins,
    is_known,
)
from sciml.xec.report.series import draw_points

SHARES = np.append(np.arange(0.05, 1.0, 0.05), 0.99)
LOOKS = {
    "u": Style("#0072B2", "o", "-"),
    "v": Style("#D55E00", "s", "--"),
    "w": Style("#009E73", "^", "-."),
    "energy": Style("#CC79A7", "v", ":"),
    "timing": Style("#E69F00", "D", "-"),
    "direction": Style("#56B4E9", "P", "--"),
}
PULLS = np.linspace(-5, 5, 51)
RATIOS = (0.22, 4.5)  # of the axes that compare errors with uncertainties
PARTS = 8  # bins of the uncertainty with equal numbers of events
HALF = float(ndtri((1 + SHARE) / 2))  # standard deviations that hold 68 %


def calibrated(columns: Columns) -> list[str]:
    """Quantities whose uncertainties are known.

    Args:
        columns: Of the events.
    """
    return [name for name in JUDGED if f"sig_{name}" in columns and len(_ratio(columns, name))]


def calibration_plate(columns: Columns, title: str) -> Plate:
    """Coverage against its nominal value, pulls, and errors against uncertainties.

    Args:
        columns: Of the events, with uncertainties of at least one quantity.
        title: Heading.
    """
    names = calibrated(columns)
    coverages = {name: coverage(columns, name) for name in names}
    numbers = [name for name in names if name != "direction"]
    pulls = {name: _ratio(columns, name) for name in numbers}
    panels: list[Panel] = [_coverage_panel(coverages, columns)]
    if pulls:
        panels.append(_pull_panel(pulls))
    panels.append(_width_panel(columns, names))
    plate = lay_out(panels, title)
    for name in names:
        for key, value in summary(columns, name).items():
            plate.note("summary", key, (np.nan, np.nan), {"value": value})
    return plate


def summary(columns: Columns, name: str) -> dict[str, float]:
    """Coverage, pulls and ratio of the uncertainties as the task logs them.

    Args:
        columns: Of the events.
        name: One of `JUDGED`, with uncertainties.
    """
    tensors = {key: torch.from_numpy(values) for key, values in columns.items()}
    if name == "direction":
        tensors["kappa"] = concentration_of(tensors["sig_direction"])
    return {key: float(value) for key, value in calibration(tensors, name).items()}


def coverage(columns: Columns, name: str) -> Floats:
    """Shares of events within intervals that should hold `SHARES` of them.

    Args:
        columns: Of the events.
        name: One of `JUDGED`, with uncertainties.
    """
    ratio = abs(_ratio(columns, name))
    if name != "direction":
        return np.asarray((ratio[:, None] <= ndtri((1 + SHARES) / 2)).mean(0))
    own = error_of(columns, name)
    known = np.isfinite(own) & np.isfinite(columns["sig_direction"])
    kappa = concentration_of(torch.from_numpy(columns["sig_direction"][known]))
    wide = np.stack([cone(kappa, float(share)).numpy() for share in SHARES], 1)
    return np.asarray((own[known][:, None] <= wide).mean(0))


def _ratio(columns: Columns, name: str) -> Floats:
    """Errors in units of their uncertainties, of the events where both are known."""
    if not is_known(columns, name):
        return np.empty(0)
    ratio = error_of(columns, name) / sigma(columns, name)
    known: Floats = ratio[np.isfinite(ratio)]
    return known if len(known) >= LEAST else np.empty(0)


def sigma(columns: Columns, name: str) -> Floats:
    """Predicted uncertainty in the unit of the quantity's errors, ``(n,)``.

    Args:
        columns: Of the events.
        name: One of `JUDGED`, with uncertainties.
    """
    scaled = QUANTITIES[name].factor * columns[f"sig_{name}"]
    return scaled / columns["true_energy"] if name == "energy" else scaled


def _coverage_panel(coverages: Mapping[str, Floats], columns: Columns) -> Panel:
    def draw(plate: Plate, axes: Axes) -> None:
        axes.axline((0, 0), slope=1, color="0.6", linewidth=0.8)
        for name, found in coverages.items():
            style = LOOKS[name]
            at_share = float(np.interp(SHARE, SHARES, found))
            label = f"{QUANTITIES[name].title}: {at_share:.2f}"
            (line,) = axes.plot(SHARES, found, label=label, linewidth=1.0, color=style.color)
            line.set_marker(style.marker)
            count = len(_ratio(columns, name))
            for share, one in zip(SHARES.tolist(), found.tolist(), strict=True):
                row: Row = {"middle": share, "value": one, "events": count}
                row["error"] = float(np.sqrt(one * (1 - one) / count))
                plate.note("coverage", name, (0.0, share), row)
        axes.set(xlabel="nominal share", ylabel="share of events within", xlim=(0, 1), ylim=(0, 1))
        axes.legend(fontsize="small", loc="lower right", title=f"at {SHARE}")

    return draw


def _pull_panel(pulls: Mapping[str, Floats]) -> Panel:
    def draw(plate: Plate, axes: Axes) -> None:
        width = PULLS[1] - PULLS[0]
        for name, found in pulls.items():
            density = np.histogram(found, PULLS)[0] / (len(found) * width)
            label = f"{QUANTITIES[name].title}: σ = {found.std():.2f}"
            style = LOOKS[name]
            axes.stairs(density, PULLS, label=label, color=style.color, linestyle=style.line)
            for low, value in zip(PULLS[:-1].tolist(), density.tolist(), strict=True):
                row: Row = {"value": value, "events": len(found)}
                plate.note("pulls", name, (low, low + width), row)
        normal = np.exp(-(PULLS**2) / 2) / np.sqrt(2 * np.pi)
        axes.plot(PULLS, normal, ":", color="black", label="normal", linewidth=1.2)
        axes.set(xlabel="error / uncertainty", ylabel="density", xlim=(-5, 5))
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        axes.legend(fontsize="small", loc="upper left", borderaxespad=0.1, handlelength=1.6)

    return draw


def _width_panel(columns: Columns, names: list[str]) -> Panel:
    def draw(plate: Plate, axes: Axes) -> None:
        axes.axline((1, 1), (2, 2), color="0.6", linewidth=0.8)
        for name in names:
            signed = QUANTITIES[name].signed
            size = sigma(columns, name) * (HALF if signed else 1)
            errors = error_of(columns, name)
            middle = float(np.nanmedian(size))
            edges = np.quantile(size[np.isfinite(size)], np.linspace(0, 1, PARTS + 1)) / middle
            edges[-1] *= 1 + 1e-9
            bins = in_bins(size / middle, errors / middle, np.unique(edges), signed=signed)
            place = ("errors against uncertainties", name)
            draw_points(plate, axes, bins, place, style=LOOKS[name])
        axes.set(xlabel="uncertainty / its median", ylabel="68 % half-width / that median")
        for axis, along in (("x", axes.xaxis), ("y", axes.yaxis)):
            axes.set(**{f"{axis}scale": "log", f"{axis}lim": RATIOS})
            along.set_major_locator(FixedLocator([0.25, 0.5, 1, 2, 4]))
            along.set_major_formatter(StrMethodFormatter("{x:g}"))
            along.set_minor_locator(NullLocator())
        titles = [QUANTITIES[name].title for name in names]
        axes.legend(axes.get_legend_handles_labels()[0], titles, fontsize="small", loc="upper left")

    return draw
