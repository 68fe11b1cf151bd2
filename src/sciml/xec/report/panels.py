"""Panels that show the errors of any reconstructed quantity."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from sciml.xec.report.fits import Fit
from sciml.xec.report.plate import Panel, Plate, legend_above, width_text
from sciml.xec.report.resolution import (
    QUANTITIES,
    Bin,
    Columns,
    Floats,
    angles,
    error_of,
    in_bins,
    known_methods,
    spread,
)
from sciml.xec.report.series import (
    draw_fit,
    draw_histograms,
    draw_points,
    draw_profile,
    histogram_edges,
)

CLIPPED = 4.0  # a method worse than the network by more leaves the panel


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
