"""Histories of different lengths, and data frames of them (t steps, S species)."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from sciml.astrochem.apply.emulator import AstroEmulator
from sciml.astrochem.data.table import TracerTable
from sciml.astrochem.physics.constants import PHYSICS
from sciml.astrochem.physics.species import initial_abundances
from sciml.core.extras import need

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

Floats = NDArray[np.float64]
ALIASES = {
    "density": "Density",
    "radfield": "Radfield",
    "av": "Av",
    "temperature": "gasTemp",
    "gastemp": "gasTemp",
}


def by_length(lengths: Sequence[int]) -> Iterator[NDArray[np.int64]]:
    """Places of all histories of one length after the other, so that each can be a batch.

    Args:
        lengths: Rows of every history.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    for size in np.unique(sizes):
        yield np.flatnonzero(sizes == size)


def emulate_rows(
    emulator: AstroEmulator,
    time: Floats,
    physics: Floats,
    starts: Sequence[int],
    x0: Floats,
    *,
    project: bool = True,
) -> NDArray[np.floating]:
    """Abundances of whole tables of histories, ``(N, S)``; the first row of each is its start.

    Args:
        emulator: What to use.
        time: Years, increasing inside a history, ``(N,)``.
        physics: Conditions that act from a row to the next in physical units, ``(N, 4)``; those
            of the last row of a history are not used.
        starts: First row of every history, n of them.
        x0: Abundances at the starts, ``(n, S)``.
        project: Conserve the elements.

    Raises:
        ValueError: If conditions or abundances are wrong, or time does not increase.
    """
    firsts = np.asarray(starts, dtype=np.int64)
    lengths = np.diff(np.append(firsts, len(time)))
    step = np.diff(time, append=np.inf)
    if (step <= 0)[np.setdiff1d(np.arange(len(time)), firsts - 1)].any():
        raise ValueError("time does not increase inside a history; sort its rows by time")
    dtype = np.float32 if emulator.dtype.itemsize == 4 else np.float64
    abundance = np.empty((len(time), len(emulator.species)), dtype=dtype)
    abundance[firsts] = x0
    for places in by_length(lengths.tolist()):
        rows = firsts[places, None] + np.arange(lengths[places[0]])
        if rows.shape[1] > 1:
            dt = step[rows[:, :-1]]
            abundance[rows[:, 1:]] = emulator.emulate(
                physics[rows[:, :-1]], x0[places], emulator.checked_dt(dt), project=project
            )
    return abundance


def predict_dataframe(
    emulator: AstroEmulator, frame: "pd.DataFrame", x0: Floats | None = None
) -> "pd.DataFrame":
    """Abundances of the histories in a data frame, a column for every species.

    Args:
        emulator: What to use.
        frame: Columns time (yr), density (H nuclei per cm³), radfield (Habing), av (mag) and
            temperature (K), or as in the data files, and tracer where there are several. A row
            holds the conditions that act until the tracer's next row.
        x0: Abundances of the first rows, ``(S,)`` or one row for every tracer; by default those
            of a cloud of atoms, ions and H2.

    Returns:
        Columns tracer, time and the species, rows as in the frame.

    Raises:
        ValueError: If a column is missing, or numbers are wrong.
        MissingPackageError: If pandas is not installed.
    """
    pandas = need("pandas", extra="chem")
    names = {str(name): str(name).lower().replace("_", "") for name in frame.columns}
    own = frame.rename(columns={name: ALIASES.get(low, low) for name, low in names.items()})
    missing = [name for name in ("time", *PHYSICS) if name not in own.columns]
    if missing:
        raise ValueError(
            f"the data frame has no column {missing[0]}; it needs time, density, radfield, av and "
            "temperature"
        )
    tracer = own["tracer"].to_numpy() if "tracer" in own.columns else np.zeros(len(own), int)
    starts = np.flatnonzero(np.append(True, tracer[1:] != tracer[:-1]))
    if len(np.unique(tracer[starts])) < len(starts):
        raise ValueError("the rows of a tracer do not follow one another; sort the data frame")
    start = initial_abundances(emulator.species) if x0 is None else np.asarray(x0, np.float64)
    every = np.broadcast_to(start, (len(starts), len(emulator.species)))
    physics = own[list(PHYSICS)].to_numpy(np.float64)
    time = own["time"].to_numpy(np.float64)
    found = emulate_rows(emulator, time, physics, starts.tolist(), every)
    columns = pandas.DataFrame(found, columns=list(emulator.species), index=frame.index)
    columns.insert(0, "time", time)
    columns.insert(0, "tracer", tracer)
    return columns


def far_away(emulator: AstroEmulator, table: TracerTable) -> dict[str, Any]:
    """Where histories leave the conditions and states of the training tracers.

    Args:
        emulator: What is used.
        table: Histories with abundances in the order of its species.

    Returns:
        By condition the extremes ``seen`` and the share of ``rows_outside``; the median and largest
        ``distance`` of the tracers.
    """
    used = np.ones(len(table), dtype=bool)
    used[table.ptr[:, 1] + table.ptr[:, 2] - 1] = False  # conditions of last rows are not used
    physics = table.physics[used].astype(np.float64)
    excess = emulator.task.domain.excess(torch.from_numpy(physics).to(emulator.device))
    outside = (excess > 0).double().mean(0)
    seen = zip(physics.min(0).tolist(), physics.max(0).tolist(), strict=True)
    distances = []
    for places in by_length(table.ptr[:, 2].tolist()):
        rows = table.ptr[places, 1][:, None] + np.arange(table.ptr[places[0], 2])
        if rows.shape[1] > 1:
            dt = emulator.checked_dt(np.diff(table.time[rows], axis=1))
            start = table.abundances[rows[:, 0]]
            far = emulator.extrapolation_score(table.physics[rows[:, :-1]], start, dt)
            distances.append(far.distance)
    distance = np.concatenate(distances)
    return {
        "seen": dict(zip(PHYSICS, seen, strict=True)),
        "rows_outside": dict(zip(PHYSICS, outside.tolist(), strict=True)),
        "distance": float(np.median(distance)),
        "distance_max": float(distance.max()),
    }
