"""Metrics as terminal tables and as CSV (T steps, S species)."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO

from rich.table import Table

from sciml.astrochem.metrics.measures import UNITS
from sciml.core.report import metric_table


def comparison_table(title: str, values: Mapping[str, Mapping[str, float]]) -> Table:
    """Metrics of a model beside those of others.

    Args:
        title: Heading.
        values: By model, metrics by name without the split.
    """
    named = [name for name in UNITS if any(name in own for own in values.values())]
    rows = {
        name: [UNITS[name], *(_cell(own.get(name)) for own in values.values())] for name in named
    }
    return metric_table(title, ["unit", *values], rows)


def species_table(species: Sequence[str], columns: Mapping[str, Sequence[float]]) -> str:
    """Numbers of every species as CSV text.

    Args:
        species: Names.
        columns: Numbers by head of the column, S each.
    """
    rows = zip(species, *columns.values(), strict=True)
    return _csv(["species", *columns], rows)


def step_table(columns: Mapping[str, Sequence[float]]) -> str:
    """Numbers of every step as CSV text; steps count from 1.

    Args:
        columns: Numbers by head of the column, T each.
    """
    rows = zip(*columns.values(), strict=True)
    return _csv(["step", *columns], ([step, *row] for step, row in enumerate(rows, 1)))


def tracer_table(tracers: Sequence[int], columns: Mapping[str, Sequence[float]]) -> str:
    """Numbers of every tracer as CSV text, in the order of their own numbers.

    Args:
        tracers: Number of every tracer.
        columns: Numbers by head of the column, as many each.
    """
    rows = sorted(zip(tracers, *columns.values(), strict=True))
    return _csv(["tracer", *columns], rows)


def _csv(heads: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    for row in rows:
        writer.writerow([f"{cell:.7g}" if isinstance(cell, float) else cell for cell in row])
    return text.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
