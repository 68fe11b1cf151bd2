"""Figures of the errors of the energy."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from sciml.xec.report.fits import fit_core, fit_law, fit_tailed, law
from sciml.xec.report.panels import VARIABLES, bias_against, binned, distribution, width_against
from sciml.xec.report.plate import FITTED, Panel, Plate, Row, lay_out, legend_above
from sciml.xec.report.resolution import Columns, in_bins, known_methods, select
from sciml.xec.report.series import draw_points

SIGNAL = (0.050, 0.055)  # GeV, window of the signal
CELLS = 46  # of the plane of true and reconstructed energy, to each side
MARGIN = 4.0  # MeV around the true energies


def energy_plate(columns: Columns, title: str) -> Plate:
    """Errors of the energy: distribution, widths against energy and place, the fitted law.

    Args:
        columns: Of the events.
        title: Heading.
    """
    panels = [_plane(columns), distribution(columns, "energy"), _absolute(columns), _law(columns)]
    panels += [bias_against(columns, "energy", "energy")]
    panels += [width_against(columns, "energy", variable) for variable in ("u", "v", "w")]
    return lay_out(panels, title, across=4)


def signal_plate(columns: Columns, title: str) -> Plate | None:
    """Errors of energies in the window of the signal with the core and the tailed curve.

    Args:
        columns: Of the events.
        title: Heading.

    Returns:
        None without such events.
    """
    inside = (columns["true_energy"] >= SIGNAL[0]) & (columns["true_energy"] <= SIGNAL[1])
    panel = distribution(select(columns, inside), "energy", (fit_core, fit_tailed))
    if panel is None:
        return None
    plate = lay_out([panel], title)
    plate.figure.set_size_inches(5.6, 3.8)
    axes = plate.figure.axes[0]
    axes.set_yscale("log")
    axes.set_ylim(0.5, 20 * axes.get_ylim()[1])
    axes.set_xlabel("relative energy error at 50 to 55 MeV (%)")
    return plate


def _plane(columns: Columns) -> Panel | None:
    if "network" not in known_methods(columns, "energy"):
        return None
    true, predicted = 1e3 * columns["true_energy"], 1e3 * columns["pred_energy"]

    def draw(plate: Plate, axes: Axes) -> None:
        known = np.isfinite(true) & np.isfinite(predicted)
        ends = true[known].min() - MARGIN, true[known].max() + MARGIN
        edges = np.linspace(*ends, CELLS + 1)
        counts, _, _ = np.histogram2d(true[known], predicted[known], (edges, edges))
        shown = np.ma.masked_equal(counts.T, 0)
        norm = LogNorm(1, max(2.0, float(counts.max())))
        drawn = axes.pcolormesh(edges, edges, shown, norm=norm, cmap="viridis", rasterized=True)
        axes.axline((0, 0), slope=1, color="0.5", linewidth=0.8)
        axes.figure.colorbar(drawn, ax=axes, label="events")
        axes.set(xlabel="true energy (MeV)", ylabel="energy of the network (MeV)", aspect="equal")
        axes.set(xlim=ends, ylim=ends)
        for i, j in np.argwhere(counts):
            row: Row = {"value": int(counts[i, j]), "y_low": edges[j], "y_high": edges[j + 1]}
            plate.note("events (true and network, MeV)", "network", (edges[i], edges[i + 1]), row)

    return draw


def _absolute(columns: Columns) -> Panel | None:
    bins = {
        label: in_bins(1e3 * columns["true_energy"], 1e3 * gap, VARIABLES["energy"].edges)
        for label, prefix in known_methods(columns, "energy").items()
        for gap in [columns[f"{prefix}energy"] - columns["true_energy"]]
    }
    if not bins.get("network"):
        return None

    def draw(plate: Plate, axes: Axes) -> None:
        for label, found in bins.items():
            draw_points(plate, axes, found, ("half-width of energy (MeV)", label))
        top = max(one.spread.width for found in bins.values() for one in found)
        axes.set_ylim(0, 1.15 * top or 1.0)
        axes.set(xlabel="true energy (MeV)", ylabel="68 % half-width, energy (MeV)")
        legend_above(axes, 1)

    return draw


def _law(columns: Columns) -> Panel | None:
    widths = width_against(columns, "energy", "energy")
    if widths is None:
        return None

    def draw(plate: Plate, axes: Axes) -> None:
        widths(plate, axes)
        bins = binned(columns, "energy", "energy")["network"]
        scaled = [one._replace(middle=one.middle / 1000) for one in bins]
        fit = fit_law(scaled)
        plate.fits.append(("σ/E (E in GeV)", fit))
        if not fit.succeeded:
            axes.set_title(f"no fit: {fit.fault}", fontsize="small", loc="right")
            return
        x = np.linspace(bins[0].low, bins[-1].high, 100)
        text = " ⊕ ".join(
            f"{fit[n]:.2g}{u}" for n, u in (("a", "/√E"), ("b", ""), ("c", "/E")) if fit[n] > 0
        )
        label = f"({text}) %, E in GeV"
        axes.plot(x, law(x / 1000, fit), color=FITTED, linewidth=1.2, label=label)
        legend_above(axes, 2)

    return draw
