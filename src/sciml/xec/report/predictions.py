"""Reconstructed gammas as CSV files, and the names that other files give to the columns."""

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciml.core.files import write_text
from sciml.xec.metrics.resolution import AXES, VECTOR
from sciml.xec.physics.constants import INVALID_FROM
from sciml.xec.physics.coordinates import emission_direction
from sciml.xec.report.resolution import Columns, Floats, angles

KINDS = ("true", "pred", "rule")
ANGLES = ("theta", "phi")
IDENTITY = ("run", "event")
PLACE = tuple(f"true_{axis}" for axis in AXES)
TABLES = {  # what a file is about, what it may also hold
    "predictions_angle.csv": (("theta", "phi"), ("sig_direction",)),
    "predictions_energy.csv": (("energy",), ("sig_energy", *PLACE)),
    "predictions_timing.csv": (("timing",), ("sig_timing",)),
    "predictions_uvwFI.csv": (AXES, tuple(f"sig_{axis}" for axis in AXES)),
}
NAMES = {"run_id": "run", "event_id": "event"} | {
    f"reco_{name}": f"rule_{name}" for name in (*AXES, "energy", "timing")
}
"""Columns of inference under the names of the task."""


def write_predictions(
    folder: Path, columns: Mapping[str, NDArray[np.float64] | NDArray[np.int64]]
) -> list[Path]:
    """Write the files of the quantities that were reconstructed, one row an event.

    Each begins with run and event, -1 where these are not known; then come true and reconstructed
    numbers, and where there are some those of the conventional estimates ``rule_…`` and the
    uncertainties ``sig_…``. The truth of an event without one is ``nan``.

    Args:
        folder: It is made; files that are there are replaced.
        columns: With the names of the task, each ``(n,)``.

    Returns:
        The files.
    """
    doubles = {name: np.asarray(one, dtype=np.float64) for name, one in columns.items()}
    known = {name: one for name, one in doubles.items() if not np.isnan(one).all()}
    for kind in KINDS:
        if all(f"{kind}_{axis}" in known for axis in VECTOR):
            pair = angles(known, f"{kind}_").T
            known |= {f"{kind}_{name}": one for name, one in zip(ANGLES, pair, strict=True)}
    written = []
    for file, (names, more) in TABLES.items():
        wanted = [f"{kind}_{name}" for kind in ("true", "pred") for name in names]
        if not all(name in known for name in wanted[len(names) :]):
            continue
        wanted += [name for name in more if name in known]
        wanted += [f"rule_{name}" for name in names if f"rule_{name}" in known]
        path = folder / file
        write_text(path, _text(known, wanted))
        written.append(path)
    return written


def read_predictions(path: Path) -> Columns:
    """Read one CSV file of events, or all of `TABLES` in a folder.

    Those of a folder are put together by run and event, never by row.

    Args:
        path: File with a line of names, or folder.

    Returns:
        Columns with the names of the task.

    Raises:
        FileNotFoundError: If there is nothing to read.
        ValueError: If a file is no table of numbers, or events cannot be told apart.
    """
    if not path.is_dir():
        return standard(_read(path))
    tables = {name: _read(path / name) for name in TABLES if (path / name).is_file()}
    if not tables:
        raise FileNotFoundError(f"{path} has none of {', '.join(TABLES)}; name a folder with some")
    return standard(_join(tables, path))


def standard(columns: Mapping[str, NDArray[Any]]) -> dict[str, Floats]:
    """Columns with the names of the task, whatever wrote them.

    Angles become directions; conventional results stored in the data become those of the rules;
    values that are invalid, 1e10 or infinite, become NaN.

    Args:
        columns: ``(n,)`` or ``(n, 1)`` each; others are left out.
    """
    found: dict[str, Floats] = {}
    for name, values in columns.items():
        size = len(values) if values.ndim else 0
        if values.ndim and values.size == size and values.dtype.kind in "fiub":
            own, one = NAMES.get(name, name), values.reshape(size).astype(np.float64)
            is_value = (abs(one) < INVALID_FROM) | (own in IDENTITY)
            found[own] = np.where(is_value, one, np.nan)
    for kind in KINDS:
        pair = [f"{kind}_{name}" for name in ANGLES]
        if all(name in found for name in pair) and f"{kind}_ex" not in found:
            vector = emission_direction(np.stack([found[name] for name in pair], -1))
            found |= {f"{kind}_{axis}": one for axis, one in zip(VECTOR, vector.T, strict=True)}
    return found


def _text(known: Columns, names: Sequence[str]) -> str:
    count = len(next(iter(known.values())))
    none = np.full(count, -1.0)
    whole = [np.nan_to_num(known.get(name, none), nan=-1) for name in IDENTITY]
    absent = np.full(count, np.nan)
    numbers = [known.get(name, absent) for name in names]
    text = io.StringIO()
    forms = ["%d"] * len(whole) + ["%.9g"] * len(numbers)
    heads = ",".join([*IDENTITY, *names])
    table = np.stack([*whole, *numbers], 1)
    np.savetxt(text, table, forms, delimiter=",", header=heads, comments="")
    return text.getvalue()


def _read(path: Path) -> dict[str, Floats]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    with path.open(encoding="utf-8") as file:
        heads = [head.strip().strip('"') for head in file.readline().strip().split(",")]
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*input contained no data.*")
                table = np.loadtxt(file, delimiter=",", ndmin=2, converters=_number)
        except ValueError as error:
            raise ValueError(f"{path} is no table of numbers: {error}") from error
    if not table.size:
        raise ValueError(f"{path} holds no events")
    if table.shape[1] != len(heads):
        raise ValueError(f"{path} names {len(heads)} columns and has {table.shape[1]}")
    return dict(zip(heads, table.T.copy(), strict=True))


def _number(cell: str) -> float:
    return float(cell) if cell.strip() else np.nan


def _join(tables: Mapping[str, Mapping[str, Floats]], where: Path) -> dict[str, Floats]:
    """Rows of the same run and event, NaN where a table does not have it."""
    for name, table in tables.items():
        if any(key not in table for key in IDENTITY):
            raise ValueError(f"{where / name} has no columns run and event to join it by")
    keys = {name: np.stack([table[key] for key in IDENTITY], 1) for name, table in tables.items()}
    first = next(iter(keys.values()))
    found: dict[str, Floats]
    if all(np.array_equal(key, first) for key in keys.values()):
        return {name: one for table in tables.values() for name, one in table.items()}
    every, place = np.unique(np.concatenate([*keys.values()]), axis=0, return_inverse=True)
    places = np.split(place.reshape(-1), np.cumsum([len(key) for key in keys.values()])[:-1])
    found = dict(zip(IDENTITY, every.T.copy(), strict=True))
    for (name, table), rows in zip(tables.items(), places, strict=True):
        if len(np.unique(rows)) < len(rows):
            raise ValueError(f"{where / name} has the same run and event more than once")
        for column in table.keys() - set(IDENTITY):
            values = found.setdefault(column, np.full(len(every), np.nan))
            values[rows] = table[column]
    return found
