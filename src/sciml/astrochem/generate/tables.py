"""Histories that users bring as a table.

Letters: T rows of a tracer.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sciml.astrochem.generate.network import Floats

COLUMNS = ("tracer", "time", "density", "radfield", "av", "temperature")
POSITIVE = ("density", "radfield", "av", "temperature")


@dataclass(frozen=True, slots=True)
class History:
    """Conditions of one parcel over time.

    Args:
        time: Years, shape ``(T,)``, increasing.
        conditions: Density in H nuclei per cm³, field in Habing, visual extinction in mag and
            temperature in K, shape ``(T - 1, 4)``; row i acts from time i to time i + 1.
    """

    time: Floats
    conditions: Floats


def read_histories(path: Path) -> dict[int, History]:
    """Read a csv table with one row for each time of each tracer.

    Args:
        path: Table with the columns tracer (a whole number), time (yr), density (H nuclei per
            cm³), radfield (Habing), av (mag), temperature (K); others are ignored. A row holds the
            conditions that act until the tracer's next row, so those of its last row are not used.

    Returns:
        Histories by tracer, in the order of the table.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: Naming the row that is wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check --histories")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restval="", skipinitialspace=True)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(
                f"{path} has no column {missing[0]}; a table of histories needs"
                f" {', '.join(COLUMNS)}"
            )
        rows: dict[int, list[tuple[int, list[float]]]] = {}
        for row in reader:
            tracer, values = _numbers(path, reader.line_num, row)
            rows.setdefault(tracer, []).append((reader.line_num, values))
    if not rows:
        raise ValueError(f"{path} has no rows; give at least two for a tracer")
    return {tracer: _history(path, tracer, lines) for tracer, lines in rows.items()}


def _numbers(path: Path, line: int, row: dict[str, str]) -> tuple[int, list[float]]:
    where = f"row {line} of {path}"
    if not row["tracer"].strip().isdecimal():
        raise ValueError(
            f"{where} has the tracer '{row['tracer']}'; number them with whole numbers from 0"
        )
    values = []
    for name in COLUMNS[1:]:
        try:
            value = float(row[name])
        except ValueError:
            raise ValueError(f"{where} has {name} '{row[name]}'; write a number") from None
        if not np.isfinite(value):
            raise ValueError(f"{where} has {name} {value}; give a finite number")
        if value < 0 or (value == 0 and name in POSITIVE):
            wanted = "positive" if name in POSITIVE else "non-negative"
            raise ValueError(f"{where} has {name} {value:g}; give a {wanted} number")
        values.append(value)
    return int(row["tracer"]), values


def _history(path: Path, tracer: int, lines: list[tuple[int, list[float]]]) -> History:
    table = np.array([values for _, values in lines])
    if len(table) < 2:
        raise ValueError(
            f"tracer {tracer} of {path} has a single row; give at least two, the start and the end"
        )
    back = np.flatnonzero(np.diff(table[:, 0]) <= 0)
    if back.size:
        raise ValueError(
            f"time does not increase at row {lines[back[0] + 1][0]} of {path}, tracer {tracer};"
            " sort the rows by time and drop repeated ones"
        )
    return History(table[:, 0], table[:-1, 1:])
