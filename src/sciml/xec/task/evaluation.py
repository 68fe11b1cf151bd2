"""What a validation or a test measures of reconstructed gammas and leaves behind (n events)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from sciml.core.files import write_text
from sciml.xec.metrics.calibration import best_half, calibration, concentration_of, temperature
from sciml.xec.metrics.classes import class_metrics
from sciml.xec.metrics.resolution import AXES, TIMES, VECTOR, resolutions, selection
from sciml.xec.report.gammas import csv_text, fit_rows, judged, plates
from sciml.xec.report.predictions import write_predictions
from sciml.xec.report.regions import region_rows
from sciml.xec.task.quantities import ANGLES

Columns = dict[str, NDArray[np.float64]]
MEASURES = {
    "uvwFI": "uvw_dist_68pct",
    "energy": "energy_rel_68pct",
    "timing": "timing_res_68pct",
    "angle": "angle_resolution_68pct",
    "angleVec": "angle_resolution_68pct",
}
"""What the score compares with that of the conventional estimates."""
IDENTITY = ("run", "event", "number")
KINDS = ("true", "pred", "rule")
WHERE = " in the fiducial volume"


def column_names(uncertain: Sequence[str]) -> list[str]:
    """Columns that are kept of every event.

    Args:
        uncertain: Quantities with uncertainties.
    """
    names = [f"{kind}_{name}" for kind in KINDS for name in (*AXES, "energy", *TIMES, *VECTOR)]
    if set(ANGLES) <= set(uncertain):
        names += [f"{kind}_{name}" for kind in KINDS[:2] for name in ANGLES]
    names += [f"sig_{name}" for name in uncertain]
    return [*names, "true_n_gamma", "pred_n_gamma", "kappa", *IDENTITY]


def metrics(
    columns: Mapping[str, Tensor], tasks: Sequence[str], uncertain: Sequence[str]
) -> dict[str, Tensor]:
    """All numbers of an evaluation, without those that events are missing for.

    Args:
        columns: Of `column_names`, ``(n,)`` each.
        tasks: Of the network.
        uncertain: Quantities with uncertainties.

    Returns:
        Resolutions in the fiducial volume, with the prefix ``signal_`` of high energies, of the
        conventional estimates with ``rule_``; calibration; ``score``; ``n_gamma_…``.
    """
    found: dict[str, Tensor] = {}
    for prefix, near in (("", False), ("signal_", True)):
        chosen = selection(columns, near)
        if not chosen.any():
            continue
        rows = {name: column[chosen] for name, column in columns.items()}
        own, rule = (_known(resolutions(rows, kind)) for kind in ("pred_", "rule_"))
        found |= {f"{prefix}{name}": value for name, value in own.items()}
        found |= {f"{prefix}rule_{name}": value for name, value in rule.items() if name in own}
        if prefix:
            continue
        measures = sorted({MEASURES[task] for task in tasks if task in MEASURES})
        ratios = [own[name] / rule[name] for name in measures if name in own]
        if ratios:
            found["score"] = torch.stack(ratios).mean()
        for name in uncertain:
            found |= calibration(rows, name) | best_half(rows, name)
    if "n_gamma" in tasks:
        classes = class_metrics(columns["true_n_gamma"], columns["pred_n_gamma"])
        found |= {f"n_gamma_{name}": value for name, value in classes.items()}
    return found


def recalibrate(columns: Mapping[str, Tensor], factors: nn.Module) -> dict[str, Tensor]:
    """Fit the factors of the uncertainties anew, and the columns after it.

    Args:
        columns: With uncertainties that have the present factors.
        factors: A buffer for each quantity with uncertainties; changed.
    """
    found = dict(columns)
    for name, factor in factors.named_buffers():
        change = temperature(columns, name)
        factor.mul_(change.to(factor))
        found[f"sig_{name}"] = columns[f"sig_{name}"] * change
    if "sig_direction" in found:
        found["kappa"] = concentration_of(found["sig_direction"])
    return found


def keeps_events(trainer: Trainer) -> bool:
    """Whether this process draws and writes what an evaluation measured.

    Args:
        trainer: That evaluates.
    """
    dry = trainer.sanity_checking or bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
    return trainer.is_global_zero and bool(trainer.loggers) and not dry


def to_arrays(columns: Mapping[str, Tensor]) -> Columns:
    """Columns as arrays of NumPy, NaN where a number is not finite.

    Args:
        columns: Tensors.
    """
    arrays = {name: values.double().cpu().numpy() for name, values in columns.items()}
    return {name: np.where(np.isfinite(one), one, np.nan) for name, one in arrays.items()}


def write_test_tables(folder: Path, columns: Columns) -> dict[str, Figure]:
    """Write what a test leaves behind: events, resolutions by region, and fitted curves.

    The files are predictions_angle.csv and so on, resolutions.csv and fits.csv.

    Args:
        folder: It is made.
        columns: Of the events.

    Returns:
        The figures that were drawn for the fits.
    """
    write_predictions(folder, columns)
    events = judged(columns)
    drawn = plates(events, WHERE)
    for name, rows in {"resolutions": region_rows(events), "fits": fit_rows(drawn)}.items():
        if rows:
            write_text(folder / f"{name}.csv", csv_text(rows))
    return {name: plate.figure for name, plate in drawn.items()}


def _known(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if not bool(value.isnan())}
