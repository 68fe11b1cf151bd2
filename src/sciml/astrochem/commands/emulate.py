"""``sciml astrochem emulate``: physical histories in, abundances out."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sciml.astrochem.apply.emulator import AstroEmulator
from sciml.astrochem.apply.frame import emulate_rows, far_away
from sciml.astrochem.apply.reading import read_tracers
from sciml.astrochem.data.files import READING
from sciml.astrochem.data.source import Reading
from sciml.astrochem.data.table import TracerTable, make_table
from sciml.astrochem.data.writer import write_groups
from sciml.astrochem.generate.tables import History, read_histories
from sciml.astrochem.physics.constants import PHYSICS, PHYSICS_UNITS
from sciml.astrochem.physics.species import initial_abundances
from sciml.core.files import refuse_existing
from sciml.core.report import metric_table, show


def emulate(
    ckpt: Path,
    *,
    tracers: Path,
    out: Path,
    start: Path | None = None,
    start_group: str | None = None,
    start_row: Literal["first", "last"] = "first",
    project: bool = True,
    reading: Reading = READING,
) -> dict[str, Any]:
    """Compute the abundances along physical histories.

    Conditions outside the ranges of the training tracers are reported.

    Args:
        ckpt: Checkpoint of an emulator.
        tracers: Table with the columns tracer (a whole number), time (yr), density (H nuclei per
            cm³), radfield (Habing), av (mag), temperature (K); a row holds the conditions that act
            until the tracer's next row.
        out: HDF5 file to make, layout sciml-astrochem-1. It must not exist.
        start: File of tracers whose states are the initial abundances: that of the same number, or
            of its only tracer for all. By default all start from a cloud of atoms, ions
            and H2.
        start_group: Group of that file; by default it has only one.
        start_row: Whether their first or their last state is taken.
        project: Conserve the elements of the initial abundances exactly.
        reading: How the file of `start` is read; what has its default is as it was for training.

    Returns:
        What was made, also printed.
    """
    refuse_existing(out)
    if not tracers.is_file():
        raise FileNotFoundError(f"no file {tracers}; check --tracers")
    emulator = AstroEmulator.from_checkpoint(ckpt)
    histories = read_histories(tracers)
    if start is None:
        states = np.tile(initial_abundances(emulator.species), (len(histories), 1))
    else:
        chosen = None if start_group is None else [start_group]
        read = read_tracers(start, ckpt, emulator, reading=reading, groups=chosen)
        states = _states(read, list(histories), start, start_row)
    table = _emulate(emulator, histories, states, project)
    dt = float(np.median(np.concatenate([np.diff(one.time) for one in histories.values()])))
    write_groups(
        out,
        {"emulated": table},
        dt_yr=dt,
        generator=f"emulator {ckpt.name}",
        initial="atomic" if start is None else f"{start_row} rows of {start.name}",
        elements=emulator.elements,
        attributes={"histories": tracers.name, "projected": int(project)},
    )
    summary = {"tracers": len(histories), "rows": len(table), **far_away(emulator, table)}
    _report(emulator, summary)
    print(f"{summary['rows']} rows of {summary['tracers']} tracers in {out}")
    return summary


def _states(
    read: dict[str, TracerTable],
    numbers: list[int],
    start: Path,
    row: Literal["first", "last"],
) -> NDArray[np.float64]:
    """Abundances ``(n, S)`` that every tracer starts from, of those that were read."""
    if len(read) > 1:
        raise ValueError(f"{start} has the groups {', '.join(read)}; choose with --start_group")
    table = next(iter(read.values()))
    known = {int(number): place for place, number in enumerate(table.ptr[:, 0])}
    missing = [number for number in numbers if number not in known]
    if len(known) > 1 and missing:
        raise ValueError(
            f"{start} has no tracer {missing[0]} to start from; give one with the same numbers, "
            "or with a single tracer"
        )
    chosen = [known.get(number, 0) if len(known) > 1 else 0 for number in numbers]
    rows = table.ptr[chosen, 1] + (0 if row == "first" else table.ptr[chosen, 2] - 1)
    states: NDArray[np.float64] = table.abundances[rows].astype(np.float64)
    return states


def _emulate(
    emulator: AstroEmulator,
    histories: dict[int, History],
    states: NDArray[np.float64],
    project: bool,
) -> TracerTable:
    conditions = [np.vstack([one.conditions, one.conditions[-1:]]) for one in histories.values()]
    time = np.concatenate([one.time for one in histories.values()])
    lengths = [len(one.time) for one in histories.values()]
    starts = np.cumsum(lengths) - lengths
    physics = np.concatenate(conditions)
    found = emulate_rows(emulator, time, physics, starts.tolist(), states, project=project)
    values = np.concatenate([physics, found], axis=1)
    return make_table(values, time, lengths, emulator.species, numbers=list(histories))


def _report(emulator: AstroEmulator, summary: dict[str, Any]) -> None:
    rows = {}
    for name, unit in zip(PHYSICS, PHYSICS_UNITS, strict=True):
        low, high = emulator.ranges[name]
        least, most = summary["seen"][name]
        share = f"{100 * summary['rows_outside'][name]:.2f} %"
        rows[f"{name} ({unit})"] = [f"{low:.3g} to {high:.3g}", f"{least:.3g} to {most:.3g}", share]
    show(metric_table("conditions", ["training", "here", "rows outside"], rows, head="condition"))
    print(
        f"distance from the training states (about 1 inside): median {summary['distance']:.2f}, "
        f"largest {summary['distance_max']:.2f}"
    )
