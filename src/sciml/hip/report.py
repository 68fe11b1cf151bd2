"""Figures and tables of a trained network beside its baselines (b molecules)."""

import csv
import math
from collections.abc import Mapping, Sequence
from io import StringIO

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from sciml.core.report import house_style, metric_table
from sciml.hip.metrics.modes import CHARACTERS
from sciml.hip.physics.layout import entry_mask

Batch = dict[str, Tensor]
Array = NDArray[np.float64]

SAMPLES = 20_000  # points of one parity plot
SAMPLES_PER_BATCH = 2_000

COLUMNS = {  # head of a column: ending of the metric's name
    "model": "",
    "zero": "_zero",
    "constants": "_constants",
    "mean blocks": "_blocks",
    "pair prior": "_prior",
}
ROWS = {  # metric: unit
    "energy_mae": "eV",
    "energy_mae_atom": "eV/atom",
    "forces_mae": "eV/Å",
    "hessian_mae": "eV/Å²",
    "hessian_mae_entry": "eV/Å²",
    "eigenvalue_mae": "eV/Å²",
    "lambda1_mae": "eV/Å²/amu",
    "cos_v1": "",
    "cos_v2": "",
    "frequency_mae": "cm⁻¹",
    "zpe_mae": "meV",
    "negative_agreement": "",
    "ts_precision": "",
    "ts_recall": "",
    "score": "",
    "milliseconds": "ms/molecule",
}
UNITS = {"energy": "eV/atom", "forces": "eV/Å", "hessian": "eV/Å²"}


def comparison_table(title: str, values: Mapping[str, float], split: str) -> Table:
    """The metrics of a split beside those of the baselines.

    Args:
        title: Heading.
        values: Metrics by full name.
        split: Prefix of the names.
    """
    rows = {}
    for name, unit in ROWS.items():
        cells = [values.get(f"{split}/{name}{ending}") for ending in COLUMNS.values()]
        if cells[0] is not None:
            rows[name] = [unit, *("" if cell is None else f"{cell:.4g}" for cell in cells)]
    return metric_table(title, ["unit", *COLUMNS], rows)


class Samples:
    """True and predicted numbers of the first batches, as many as figures can show."""

    def __init__(self) -> None:
        self._pairs: dict[str, list[Array]] = {name: [] for name in UNITS}
        self._cosines: list[Array] = []

    def add(self, prediction: Batch, batch: Batch, rows: Mapping[str, Tensor]) -> None:
        """Take evenly spaced numbers of a batch.

        Args:
            prediction: Output of the network.
            batch: Molecules with their labels.
            rows: Errors of every molecule, from `HIPMetrics.update`.
        """
        atoms = batch["ptr"].diff()
        own = prediction["energy"]
        label = batch["energy"] - (prediction["total_energy"] - own)
        has_forces = (batch["w_forces"] > 0)[batch["batch"]]
        self._keep("energy", label / atoms, own / atoms, batch["w_energy"] > 0)
        self._keep("forces", batch["forces"], prediction["forces"], has_forces)
        if "hessian" in prediction:
            real = entry_mask(batch["ptr"]) & (batch["w_hessian"] > 0)[:, None]
            entries = real[:, :, None] & real[:, None, :]
            self._keep("hessian", batch["hessian"], prediction["hessian"], entries)
        if "cos_v1" in rows:
            cosines = rows["cos_v1"][rows["cos_v1"].isfinite()]
            self._cosines.append(cosines.cpu().numpy())

    def arrays(self) -> dict[str, Array]:
        """What `figures` draws: ``<quantity>`` of shape ``(points, 2)``, and ``cos_v1``."""
        kept = {name: np.concatenate(parts) for name, parts in self._pairs.items() if parts}
        if self._cosines:
            kept["cos_v1"] = np.concatenate(self._cosines)
        return kept

    def _keep(self, name: str, true: Tensor, seen: Tensor, mask: Tensor) -> None:
        if sum(len(part) for part in self._pairs[name]) >= SAMPLES:
            return
        columns = [values[mask].flatten().cpu().double().numpy() for values in (true, seen)]
        pairs = np.stack(columns, axis=1)
        stride = max(1, math.ceil(len(pairs) / SAMPLES_PER_BATCH))
        if len(pairs):
            self._pairs[name].append(pairs[::stride])


def figures(predictions: Mapping[str, Array]) -> dict[str, Figure]:
    """Parity plots, the overlaps of the lowest mode and the stationary-point characters.

    Args:
        predictions: What `Samples.arrays` returns, and as ``characters`` what `confusion_shares`
            returns.

    Returns:
        Figures by name; those without data are left out.
    """
    drawn = {}
    with house_style():
        for name, unit in UNITS.items():
            if name in predictions:
                drawn[name] = parity_figure(predictions[name], name, unit)
        if predictions.get("cos_v1", np.empty(0)).size:
            drawn["cos_v1"] = overlap_figure(predictions["cos_v1"])
        if "characters" in predictions:
            drawn["characters"] = confusion_figure(predictions["characters"])
    return drawn


def parity_figure(pairs: Array, name: str, unit: str) -> Figure:
    """Predicted against true numbers, and the residuals below.

    Args:
        pairs: True and predicted numbers, shape ``(points, 2)``.
        name: Quantity.
        unit: Its unit.
    """
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(4, 5), sharex=True, height_ratios=(3, 1))
    true, seen = pairs.T
    low, high = float(pairs.min()), float(pairs.max())
    upper.plot([low, high], [low, high], color="black", linewidth=0.8)
    upper.plot(true, seen, ".", alpha=0.3, rasterized=True)
    lower.axhline(0.0, color="black", linewidth=0.8)
    lower.plot(true, seen - true, ".", alpha=0.3, rasterized=True)
    upper.set_ylabel(f"predicted {name} ({unit})")
    lower.set_ylabel(f"residual ({unit})")
    lower.set_xlabel(f"true {name} ({unit})")
    upper.set_title(f"mean absolute error {np.abs(seen - true).mean():.3g} {unit}")
    return figure


def overlap_figure(cosines: Array) -> Figure:
    """Histogram of the overlap of the predicted lowest mode with the true one.

    Args:
        cosines: ``|v₁·v₁ᵗ|`` of every molecule, shape ``(b,)``.
    """
    figure, axes = plt.subplots(figsize=(4, 3))
    axes.hist(cosines, bins=np.linspace(0.0, 1.0, 26).tolist())
    axes.set_xlabel("overlap |v₁ · v₁ᵗ| of the lowest mode")
    axes.set_ylabel("molecules")
    axes.set_title(f"mean {cosines.mean():.3f}, median {np.median(cosines):.3f}")
    return figure


def confusion_shares(values: Mapping[str, float], split: str) -> Array | None:
    """Share of all molecules by true (rows) and predicted (columns) character, ``(3, 3)``.

    Args:
        values: Metrics of the split by full name.
        split: Prefix of the names.
    """
    names = [
        [f"{split}/confusion_{row}_as_{column}" for column in CHARACTERS] for row in CHARACTERS
    ]
    if names[0][0] not in values:
        return None
    return np.array([[values[name] for name in row] for row in names])


def confusion_figure(shares: Array) -> Figure:
    """Table of true and predicted stationary-point characters.

    Args:
        shares: Share of all molecules, true by rows, shape ``(3, 3)``.
    """
    figure, axes = plt.subplots(figsize=(4, 3.4))
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=max(float(shares.max()), 1e-9))
    for row, column in np.ndindex(*shares.shape):
        _write_share(axes, row, column, shares)
    axes.set_xticks(range(3), CHARACTERS)
    axes.set_yticks(range(3), CHARACTERS)
    axes.set_xlabel("predicted (number of negative modes 0, 1, more)")
    axes.set_ylabel("true")
    axes.set_title(f"agreement {100 * np.trace(shares):.0f} %")
    return figure


def molecule_table(rows: Sequence[Mapping[str, float]]) -> str:
    """Errors of every molecule as CSV text, ordered by identifier; empty where undefined.

    Args:
        rows: One mapping per molecule, with ``id`` and ``atoms``.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in sorted(rows, key=lambda row: row["id"]):
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue()


def _write_share(axes: Axes, row: int, column: int, shares: Array) -> None:
    dark = shares[row, column] > shares.max() / 2
    axes.text(
        column,
        row,
        f"{100 * shares[row, column]:.0f} %",
        ha="center",
        va="center",
        color="white" if dark else "black",
    )


def _cell(value: float) -> str:
    if math.isnan(value):
        return ""
    return str(int(value)) if value == int(value) and abs(value) < 1e9 else f"{value:.9g}"
