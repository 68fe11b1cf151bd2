"""Histories of one tracer, true and predicted (t steps, S species)."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from sciml.astrochem.physics.constants import LO
from sciml.astrochem.report.names import chemical_name, is_layered

Array = NDArray[np.float64]
PANELS = ("density (cm⁻³)", "field (Habing)", "$A_V$ (mag)", "temperature (K)")
SHOWN = ("CO", "#CO", "#H2O", "C+", "#CH3OH", "#CH4O", "E-", "HCO+")
MOST = 6  # colours of the cycle besides black
MANY = 30.0  # ratio from which an axis is logarithmic
LEAST = 1e-14  # abundance below which an axis shows nothing unless asked


@dataclass(frozen=True)
class Track:
    """One tracer and what was predicted for it.

    Args:
        title: Which tracer it is.
        time: Years, ``(t + 1,)``.
        physics: Conditions in physical units, ``(t + 1, 4)``; the last row is not used.
        true: Abundances per H nucleus, ``(t + 1, S)``.
        predicted: Abundances after every step, ``(t, S)``.
        species: Names.
    """

    title: str
    time: Array
    physics: Array
    true: Array
    predicted: Array
    species: tuple[str, ...]


def default_choice(species: Sequence[str]) -> tuple[str, ...]:
    """Well-known species of a network to draw, at most six.

    Args:
        species: All names.
    """
    known = [name for name in SHOWN if name in species]
    return tuple([*known, *(name for name in species if name not in known)][:MOST])


def track_figure(track: Track, chosen: Sequence[str] | None = None) -> Figure:
    """Abundances against time, true solid and predicted dashed, above the four conditions.

    Args:
        track: What to draw.
        chosen: Species, at most six; by default well-known ones.

    Raises:
        ValueError: If a chosen species is not one of the track, or there are too many.
    """
    names = tuple(chosen or default_choice(track.species))
    unknown = [name for name in names if name not in track.species]
    if unknown or len(names) > MOST:
        reason = f"{unknown[0]} is no species of it" if unknown else f"{len(names)} are too many"
        raise ValueError(f"cannot draw {track.title}: {reason}; choose up to {MOST} of its species")
    figure, axes = plt.subplots(
        5, 1, figsize=(6.4, 7.2), sharex=True, height_ratios=(5, 1, 1, 1, 1)
    )
    time = track.time / 1e6
    _draw_abundances(axes[0], track, names, time)
    for panel, label, values in zip(axes[1:], PANELS, track.physics.T, strict=True):
        # conditions act from their row to the next one
        panel.step(time[:-1], values[:-1], where="post", color="black", linewidth=1)
        _scale(panel, values[:-1])
        panel.set_ylabel(label.replace(" (", "\n("), rotation=0, ha="right", va="center")
    figure.align_ylabels(axes)
    axes[0].set_title(track.title, loc="left")
    axes[-1].set_xlabel("time (Myr)")
    return figure


def _draw_abundances(axes: Axes, track: Track, names: Sequence[str], time: Array) -> None:
    layered = is_layered(track.species)
    columns = [track.species.index(name) for name in names]
    for name, column in zip(names, columns, strict=True):
        label = chemical_name(name, layered=layered)
        (line,) = axes.plot(time, np.clip(track.true[:, column], LO, None), label=label)
        predicted = np.clip(track.predicted[:, column], LO, None)
        axes.plot(time[1:], predicted, "--", color=line.get_color(), dashes=(3, 1.5))
    drawn = track.true[:, columns]
    low = 10.0 ** np.floor(np.log10(max(float(drawn.min()), LEAST)) - 0.2)
    axes.set_yscale("log")
    axes.set_ylim(low, 10.0 ** np.ceil(np.log10(max(float(drawn.max()), 2 * LEAST)) + 0.2))
    axes.yaxis.set_major_locator(LogLocator(numticks=8))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("abundance per H nucleus")
    axes.add_artist(axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0)))
    styles = [
        Line2D([], [], color="grey", label="true"),
        Line2D([], [], color="grey", dashes=(3, 1.5), linestyle="--", label="predicted"),
    ]
    axes.legend(handles=styles, loc="lower left", bbox_to_anchor=(1.0, 0.0))


def _scale(axes: Axes, values: Array) -> None:
    """A logarithmic axis over many decades, a linear one where it would have no labels."""
    low, high = float(values.min()), float(values.max())
    if high > MANY * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=3))
        axes.yaxis.set_minor_locator(NullLocator())
    elif high < 1.02 * low:  # constant: no ticks of its rounding errors
        axes.set_ylim(0.8 * low, 1.2 * low)
        axes.set_yticks([low], [f"{low:.3g}"])
    else:
        axes.yaxis.set_major_locator(MaxNLocator(2))
