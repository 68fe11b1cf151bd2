"""Resolutions by region of the detector and of the energy, with bootstrap errors (n events)."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from sciml.xec.metrics.resolution import HIGH
from sciml.xec.report.plate import Row, with_error
from sciml.xec.report.resolution import (
    JUDGED,
    QUANTITIES,
    Columns,
    error_of,
    known_methods,
    select,
    spread,
)

SHALLOW = 2.0  # cm, depth that the experiment quotes resolutions below and above of
ENERGIES = (0.015, 0.025, 0.035, 0.045, 0.050, 0.055, 0.060)  # GeV
EXTENTS = {"u": (0.0, 8.0, 16.0, 23.9), "v": (0.0, 22.5, 45.0, 67.9)}  # cm
ALL = "all"


def regions(columns: Columns) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Names of regions and the events in them, ``(n,)``; those of unknown columns are left out.

    Args:
        columns: Of the events.
    """
    count = len(next(iter(columns.values())))
    yield ALL, np.ones(count, dtype=np.bool_)
    energy, depth = columns.get("true_energy"), columns.get("true_w")
    sides = []
    if depth is not None:
        sides = [(f"w < {SHALLOW:g} cm", depth < SHALLOW), (f"w > {SHALLOW:g} cm", depth > SHALLOW)]
    yield from sides
    if energy is not None:
        high = f"E > {1e3 * HIGH:g} MeV"
        yield high, energy > HIGH
        for name, side in sides:
            yield f"{high}, {name}", side & (energy > HIGH)
        for low, top in pairwise(ENERGIES):
            yield f"E {1e3 * low:g} to {1e3 * top:g} MeV", (energy >= low) & (energy < top)
    for axis, edges in EXTENTS.items():
        if f"true_{axis}" in columns:
            size = abs(columns[f"true_{axis}"])
            for low, top in pairwise(edges):
                yield f"|{axis}| {low:g} to {top:g} cm", (size >= low) & (size < top)


def region_rows(columns: Columns) -> list[Row]:
    """Biases and half-widths of all quantities, methods and regions with enough events.

    Args:
        columns: Of the events.
    """
    rows: list[Row] = []
    for region, inside in regions(columns):
        own = select(columns, inside)
        for name in JUDGED:
            quantity = QUANTITIES[name]
            methods = known_methods(own, name)
            for method, prefix in methods.items() if "network" in methods else ():
                found = spread(error_of(own, name, prefix), signed=quantity.signed)
                row: Row = {"region": region, "quantity": name, "unit": quantity.unit}
                row |= {"method": method, "events": found.events}
                row |= {"bias": found.bias, "bias_error": found.bias_error}
                rows.append(
                    row | {"half_width": found.width, "half_width_error": found.width_error}
                )
    return rows


def region_table(rows: Sequence[Row]) -> Table:
    """Half-widths of the network by region, and those of the conventional estimates in all.

    Args:
        rows: Of `region_rows`.
    """
    names = [name for name in JUDGED if any(row["quantity"] == name for row in rows)]
    table = Table(title="68 % half-width", title_justify="left")
    table.add_column("region", no_wrap=True)
    table.add_column("events", justify="right")
    for name in names:
        quantity = QUANTITIES[name]
        table.add_column(f"{quantity.title} ({quantity.unit})", justify="right", no_wrap=True)
    lines = dict.fromkeys((str(row["region"]), str(row["method"])) for row in rows)
    for region, method in lines:
        if method != "network" and region != ALL:
            continue
        found = {r["quantity"]: r for r in rows if (r["region"], r["method"]) == (region, method)}
        cells = [_cell(found[name]) if name in found else "" for name in names]
        events = max(int(row["events"]) for row in found.values())
        table.add_row(region if method == "network" else method, str(events), *cells)
    return table


def _cell(row: Row) -> str:
    return with_error(float(row["half_width"]), float(row["half_width_error"]))
