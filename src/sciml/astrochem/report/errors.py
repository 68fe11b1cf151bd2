"""Errors against step and by species (b tracers, t steps, S species)."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from numpy.typing import NDArray

from sciml.astrochem.metrics.abundance import phase_masks
from sciml.astrochem.physics.species import phase_of
from sciml.astrochem.report.names import COLORS, chemical_name, is_layered, phase_title

Array = NDArray[np.float64]
WORST = 20  # species that a figure has room for


def step_figure(errors: Mapping[str, Array]) -> Figure:
    """Mean absolute error against step, the median of the tracers and the range of two thirds.

    Args:
        errors: By model, the mean absolute error of every tracer and step in dex, ``(b, t)``, NaN
            after the end of a tracer. The first model is drawn with its range, the others, to
            compare with, as thin lines.
    """
    figure, axes = plt.subplots(figsize=(5.6, 3.6))
    shade = ""
    for place, (name, table) in enumerate(errors.items()):
        steps = np.arange(1, table.shape[1] + 1)
        low, middle, high = np.nanquantile(table, [0.16, 0.5, 0.84], axis=0)
        (line,) = axes.plot(steps, middle, label=name, linewidth=1.0 if place else 2.0)
        if not place:
            axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
            shade = f"shaded: 16 % to 84 % of {len(table)} tracers, {name}"
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlim(1, max(2, *(table.shape[1] for table in errors.values())))
    axes.set_xlabel("step")
    axes.set_ylabel("mean absolute error (dex)")
    axes.set_title(f"lines: median; {shade}", loc="left")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def species_figure(species: Sequence[str], elements: Sequence[str], errors: Array) -> Figure:
    """The worst species, coloured by phase, and the means of the phases, in dex.

    Args:
        species: Names.
        elements: Elements they are made of.
        errors: Mean absolute error of every species in dex, ``(S,)``.
    """
    layered = is_layered(species)
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 4.6), width_ratios=(2, 1))
    order = np.argsort(errors)[::-1][:WORST]
    phases = [phase_of(species[place]) for place in order]
    labels = [chemical_name(species[place], layered=layered) for place in order]
    _bars(left, labels, errors[order], [COLORS[phase] for phase in phases])
    left.set_title(f"worst {len(order)} of {len(species)} species", loc="left")
    masks = {name: mask.numpy() for name, mask in phase_masks(species, elements).items()}
    titles = ["all", *(phase_title(name, layered=layered) for name in masks)]
    means = np.array([errors.mean(), *(errors[mask].mean() for mask in masks.values())])
    _bars(right, titles, means, ["black", *(COLORS[name] for name in masks)])
    right.set_ylim(left.get_ylim())  # bars of the same height
    right.set_title("mean of a phase", loc="left")
    return figure


def _bars(axes: Axes, labels: Sequence[str], values: Array, colors: Sequence[str]) -> None:
    places = np.arange(len(values))
    drawn = axes.barh(places, values, color=list(colors), height=0.75)
    axes.bar_label(drawn, [f"{value:.2g}" for value in values], padding=2, fontsize="small")
    axes.set_yticks(places, labels)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18 * max(float(values.max()), 1e-9))
    axes.set_xlabel("mean absolute error (dex)")
