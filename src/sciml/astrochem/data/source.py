"""The tracers of one group of a file, read a few whole tracers at a time.

Sizes: N rows, n tracers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sciml.astrochem.data.cleaning import Faults, check_physics, check_times, shift_physics
from sciml.astrochem.data.columns import Columns
from sciml.astrochem.data.grid import SLAB, Grid
from sciml.astrochem.data.table import TracerTable, make_table
from sciml.astrochem.physics.constants import RADFIELD_FLOOR
from sciml.astrochem.physics.species import initial_abundances

Alignment = Literal["interval", "state"]


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Args:
        physics_alignment: Whether a row holds the conditions that act until the next row
            (`interval`) or those its state was made by (`state`: shifted by one row); by default
            what the file says, else `interval`.
        on_bad: What happens with abundances that are negative or no number: `error`, or `clip` to
            1e-30.
        elements: What species may be made of; by default what the file says, else the usual nine.
        normalise_case: Read species in mixed case such as He.
    """

    physics_alignment: Alignment | None = None
    on_bad: Literal["error", "clip"] = "error"
    elements: list[str] | None = None
    normalise_case: bool = False


@dataclass
class Source:
    """A group of a file.

    Args:
        path: The file.
        group: Name of the group.
        grid: Its rows.
        columns: What the columns are.
        alignment: See `Reading`.
        on_bad: See `Reading`.
        elements: What the species are made of.
        is_frame: Written by pandas.
        is_raw: Output of a simulation without initial row, to be sorted by tracer and time.
        floors_field: Raise the field to 1e-4 Habing, for outputs of simulations.
        stored_ptr: Number, first row and length of every tracer as the file gives them.
        stored_tracer: Number of the tracer of every row as the file gives it.
        stored_time: Time of every row in full precision.
        attributes: Those of file and group.
    """

    path: Path
    group: str
    grid: Grid
    columns: Columns
    alignment: Alignment
    on_bad: Literal["error", "clip"]
    elements: tuple[str, ...]
    is_frame: bool = False
    is_raw: bool = False
    floors_field: bool = False
    stored_ptr: NDArray[np.int64] | None = None
    stored_tracer: NDArray[np.int64] | None = None
    stored_time: NDArray[np.float64] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """Group and file, as they stand in a sentence."""
        return f"group {self.group} of {self.path}"

    @property
    def species(self) -> tuple[str, ...]:
        """Names in the order of tables."""
        return self.columns.species

    @property
    def ptr(self) -> NDArray[np.int64]:
        """Number, first row and length of every tracer as `chunks` gives them, ``(n, 3)``."""
        lengths = self._stored[:, 2] + self._prepended
        starts = np.cumsum(lengths) - lengths
        return np.stack([self._stored[:, 0], starts, lengths], axis=1)

    def chunks(self, limit: int = SLAB) -> Iterator[TracerTable]:
        """Tables of a few whole tracers, in the order of `ptr`.

        Args:
            limit: Bytes of float32 rows in a table; a longer tracer is a table of its own.

        Raises:
            ValueError: If a row is bad.
        """
        faults = Faults(self.where, self.species)
        rows = max(1, limit // (4 * (5 + len(self.species))))
        lengths = self._stored[:, 2]
        first = 0
        while first < len(lengths):
            held = np.cumsum(lengths[first:])
            last = first + max(1, int(np.searchsorted(held, rows, side="right")))
            yield self._table(first, last, faults)
            first = last
        faults.close(self.on_bad)

    @cached_property
    def _order(self) -> NDArray[np.int64] | None:
        """Rows of the file in the order of tables, None where that is the order of the file."""
        tracer = self._tracer_column
        if self.stored_ptr is not None:
            rows = [np.arange(start, start + length) for _, start, length in self.stored_ptr]
            order = np.concatenate(rows or [np.zeros(0, dtype=np.int64)])
        elif self.is_raw:
            order = np.lexsort((self._time_column, tracer))
        else:
            order = np.argsort(tracer, kind="stable") if _is_scattered(tracer) else np.arange(0)
        moved = len(order) and (len(order) < self.grid.rows or (np.diff(order) != 1).any())
        return order if moved else None

    @cached_property
    def _tracer_column(self) -> NDArray[np.int64]:
        if self.stored_ptr is not None:
            return np.zeros(0, dtype=np.int64)
        if self.stored_tracer is not None:
            return self.stored_tracer.astype(np.int64)
        if self.columns.tracer is None:
            return np.zeros(self.grid.rows, dtype=np.int64)
        return self.grid.column(self.columns.tracer).astype(np.int64)

    @cached_property
    def _time_column(self) -> NDArray[np.float64]:
        return self.grid.column(self.columns.time)

    @cached_property
    def _stored(self) -> NDArray[np.int64]:
        """Number, first row and length of every tracer in `_order`."""
        if self.stored_ptr is not None:
            ptr = self.stored_ptr[self.stored_ptr[:, 2] > 0].astype(np.int64)
            ptr[:, 1] = np.cumsum(ptr[:, 2]) - ptr[:, 2]
            return ptr
        tracer = self._tracer_column
        tracer = tracer if self._order is None else tracer[self._order]
        if not len(tracer):
            return np.zeros((0, 3), dtype=np.int64)
        starts = np.concatenate([[0], np.flatnonzero(np.diff(tracer)) + 1])
        lengths = np.diff(np.append(starts, len(tracer)))
        return np.stack([tracer[starts], starts, lengths], axis=1)

    @cached_property
    def _prepended(self) -> NDArray[np.int64]:
        """Rows put in front of every tracer: one where a raw history begins after its start."""
        if not self.is_raw:
            return np.zeros(len(self._stored), dtype=np.int64)
        time = self._time_column if self._order is None else self._time_column[self._order]
        return (time[self._stored[:, 1]] > 0).astype(np.int64)

    def _table(self, first: int, last: int, faults: Faults) -> TracerTable:
        """Tracers ``first`` to ``last - 1``, checked and brought to the row convention."""
        ptr = self._stored[first:last]
        low, high = int(ptr[0, 1]), int(ptr[-1, 1] + ptr[-1, 2])
        places = [self.columns.time, *self.columns.physics, *self.columns.places]
        if self._order is None:
            rows = self.grid.read(low, high, places)
        else:
            rows = self.grid.gather(self._order[low:high], places)
        time = rows[:, 0].astype(np.float64)
        if self.stored_time is not None:
            own = slice(low, high) if self._order is None else self._order[low:high]
            time = self.stored_time[own].astype(np.float64)
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite: a fault
            values = np.ascontiguousarray(rows[:, 1:], dtype=np.float32)
        lengths = ptr[:, 2]
        check_times(time, ptr[:, 0], lengths, self.where)
        faults.add(values[:, 4:], ptr[:, 0], lengths)
        if self.floors_field:
            np.maximum(values[:, 1], np.float32(RADFIELD_FLOOR), out=values[:, 1])
        added = self._prepended[first:last]
        if added.any():
            values, time = self._with_start(values, time, lengths, added)
            lengths = lengths + added
        if self.alignment == "state":
            shift_physics(values[:, :4], lengths)
        check_physics(values[:, :4], ptr[:, 0], lengths, self.where)
        meta = {
            "original_names": self.columns.originals,
            "origin": [[str(self.path), self.group, number] for number in ptr[:, 0].tolist()],
            "attributes": self.attributes,
        }
        return make_table(values, time, lengths, self.species, numbers=ptr[:, 0], meta=meta)

    def _with_start(
        self,
        values: NDArray[np.float32],
        time: NDArray[np.float64],
        lengths: NDArray[np.int64],
        added: NDArray[np.int64],
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Histories with a row of initial abundances at time 0 in front."""
        starts = (np.cumsum(lengths) - lengths)[added > 0]
        front = values[starts].copy()  # its conditions are those of the first row until the shift
        front[:, 4:] = initial_abundances(self.species)
        return np.insert(values, starts, front, axis=0), np.insert(time, starts, 0.0)


def _is_scattered(tracer: NDArray[np.int64]) -> bool:
    """Whether the rows of some tracer do not lie together."""
    runs = 1 + np.count_nonzero(np.diff(tracer)) if len(tracer) else 0
    return bool(runs != len(np.unique(tracer)))
