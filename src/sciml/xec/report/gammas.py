"""All figures and tables of reconstructed gammas."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sciml.core.report import house_style
from sciml.xec.report.angle import angle_plate
from sciml.xec.report.calibration import calibrated, calibration_plate
from sciml.xec.report.energy import energy_plate, signal_plate
from sciml.xec.report.plate import Plate, Row
from sciml.xec.report.position import position_plate
from sciml.xec.report.resolution import Columns, fiducial, is_known, select
from sciml.xec.report.timing import timing_plate
from sciml.xec.report.worst import worst_events, worst_plate


def figures(columns: Mapping[str, NDArray[np.float64]]) -> dict[str, Figure]:
    """All figures that the columns allow, of the events in the fiducial volume.

    Args:
        columns: ``true_…``, ``pred_…``, ``rule_…`` and ``sig_…`` of u, v, w in cm, energy in GeV,
            timing in ns and ex, ey, ez, each ``(n,)``; run and event, which name the worst events.
            NaN is what is not known.

    Returns:
        By name: angle, energy, energy_signal, timing, position, calibration, worst; empty without
        truths.
    """
    drawn = plates(judged(columns), " in the fiducial volume")
    return {name: plate.figure for name, plate in drawn.items()}


def judged(columns: Mapping[str, NDArray[np.float64]], in_volume: bool = True) -> Columns:
    """The events that are judged, as float64, each with the number of its row.

    Args:
        columns: Of all events.
        in_volume: Only those of the fiducial volume, where the place is known.
    """
    doubles = {name: np.asarray(one, dtype=np.float64) for name, one in columns.items()}
    if not doubles:
        return doubles
    doubles.setdefault("number", np.arange(len(next(iter(doubles.values()))), dtype=np.float64))
    if not in_volume:
        return doubles
    return select(doubles, fiducial(doubles))


def plates(columns: Columns, where: str = "") -> dict[str, Plate]:
    """All figures with their numbers, by name.

    Args:
        columns: Of the events that are judged.
        where: What the headings say of them.
    """
    count = len(next(iter(columns.values()), ()))
    whose = f"{count} events{where}"
    about = f"{whose}; widths are half of the central 68 %"
    found: dict[str, Plate | None] = {}
    with house_style():
        if is_known(columns, "direction"):
            found["angle"] = angle_plate(columns, f"direction, {about}, of ψ the 68 % quantile")
        if is_known(columns, "energy"):
            found["energy"] = energy_plate(columns, f"energy, {about}")
            found["energy_signal"] = signal_plate(columns, f"energy, {about}")
        if is_known(columns, "timing"):
            found["timing"] = timing_plate(columns, f"time, {about}")
        if any(is_known(columns, axis) for axis in ("u", "v", "w")):
            found["position"] = position_plate(columns, f"first interaction, {about}")
        if calibrated(columns):
            found["calibration"] = calibration_plate(columns, f"uncertainties, {whose}")
        if found and len(worst_events(columns)):
            found["worst"] = worst_plate(columns, f"worst of {whose}")
    return {name: plate for name, plate in found.items() if plate is not None}


def fit_rows(drawn: Mapping[str, Plate]) -> list[Row]:
    """Parameters of all fitted curves; of a fit that failed, why.

    Args:
        drawn: Figures by name.
    """
    rows: list[Row] = []
    for name, plate in drawn.items():
        for panel, fit in plate.fits:
            for parameter, value, error in zip(fit.parameters, fit.values, fit.errors, strict=True):
                row: Row = {"figure": name, "panel": panel, "fit": fit.name}
                row |= {"parameter": parameter, "value": value, "error": error}
                rows.append(row | {"events": fit.events, "fault": fit.fault})
    return rows


def csv_text(rows: Sequence[Row]) -> str:
    """Rows as CSV, numbers to nine digits; a column that a row does not have is empty.

    Args:
        rows: With their columns, in the order in which they appear.
    """
    heads = list(dict.fromkeys(key for row in rows for key in row))
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(_cells(row.get(head, "") for head in heads) for row in rows)
    return text.getvalue()


def _cells(values: Iterable[str | int | float]) -> list[str | int]:
    return [f"{value:.9g}" if isinstance(value, float) else value for value in values]
