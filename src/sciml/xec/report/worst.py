"""The events with the largest errors (n events)."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from sciml.xec.report.calibration import LOOKS
from sciml.xec.report.plate import Plate, Row, lay_out
from sciml.xec.report.resolution import JUDGED, QUANTITIES, Columns, Floats, error_of, spread

COUNT = 10
NAMED = ("run", "event", "number")  # what an event is known by


def losses(columns: Columns) -> dict[str, Floats]:
    """Squared errors of every quantity in units of the 68 % half-width of all events.

    Args:
        columns: Of the events.

    Returns:
        By quantity ``(n,)``, NaN where an error is not known; quantities without a width are left
        out.
    """
    found = {}
    for name in JUDGED:
        errors = error_of(columns, name)
        width = spread(errors, signed=QUANTITIES[name].signed).width
        if width > 0:
            found[name] = (errors / width) ** 2
    return found


def worst_events(columns: Columns, count: int = COUNT) -> NDArray[np.int64]:
    """Places of the events with the largest mean loss, the worst first, of equal ones the first.

    Args:
        columns: Of the events.
        count: How many at most; events without a known error are none of them.
    """
    total = mean_loss(columns)
    order = np.argsort(-total, kind="stable")  # NaN last
    return order[: min(count, int(np.isfinite(total).sum()))]


def mean_loss(columns: Columns) -> Floats:
    """Mean of the known losses of every event, ``(n,)``; NaN without any.

    Args:
        columns: Of the events.
    """
    parts = np.array([*losses(columns).values()])
    if not parts.size:
        return np.full(len(next(iter(columns.values()), ())), np.nan)
    known = np.isfinite(parts)
    count = known.sum(0)
    total: Floats = np.where(known, parts, 0).sum(0) / np.maximum(count, 1)
    return np.where(count > 0, total, np.nan)


def worst_rows(columns: Columns) -> list[Row]:
    """Numbers of the worst events: which they are, their loss, true and reconstructed values.

    Args:
        columns: Of the events.
    """
    total, rows = mean_loss(columns), []
    shown = [name for name in columns if name.startswith(("true_", "pred_", "sig_"))]
    for rank, place in enumerate(worst_events(columns).tolist(), 1):
        own = {name: float(values[place]) for name, values in columns.items()}
        row: Row = {"rank": rank, "loss": float(total[place])}
        row |= {name: whole(own[name]) for name in NAMED if name in own}
        rows.append(row | {name: own[name] for name in shown})
    return rows


def whole(value: float) -> int:
    """A whole number, -1 where it is not known.

    Args:
        value: Of a column.
    """
    return int(value) if np.isfinite(value) else -1


def worst_plate(columns: Columns, title: str) -> Plate:
    """Bars of the worst events, made of the losses of the quantities.

    Args:
        columns: Of the events, of which `worst_events` gives some.
        title: Heading.
    """
    places = worst_events(columns)
    parts = {name: one[places] for name, one in losses(columns).items()}
    table = np.array([*parts.values()])
    stacked = np.nan_to_num(table) / np.isfinite(table).sum(0)

    def draw(plate: Plate, axes: Axes) -> None:
        bottom = np.zeros(len(places))
        bars = np.arange(len(places))
        for name, share in zip(parts, stacked, strict=True):
            label, color = QUANTITIES[name].title, LOOKS[name].color
            drawn = axes.barh(bars, share, left=bottom, color=color, label=label)
            bottom += share
            for rank, value in enumerate(share.tolist(), 1):
                plate.note("mean squared error / half-width²", name, (rank, rank), {"value": value})
        axes.bar_label(drawn, [f"{x:.3g}" for x in bottom], padding=3)
        axes.set_yticks(bars, [_identity(columns, place) for place in places.tolist()])
        axes.invert_yaxis()
        axes.set(xlabel="squared error / half-width², mean of the quantities")
        axes.set_xlim(0, 1.12 * float(bottom.max()) or 1.0)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")

    plate = lay_out([draw], title)
    plate.figure.set_size_inches(6.4, 1.2 + 0.3 * len(places))
    return plate


def _identity(columns: Columns, place: int) -> str:
    """Run and event, or the row of an event that has no such numbers."""
    run, event, number = (whole(columns[n][place]) if n in columns else -1 for n in NAMED)
    if run >= 0 and event >= 0:
        return f"run {run} event {event}"
    return f"row {number if number >= 0 else place}"
