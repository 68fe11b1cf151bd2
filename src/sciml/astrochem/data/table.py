"""Histories of gas parcels in memory.

Sizes: N rows, n tracers, S species.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciml.astrochem.physics.constants import PHYSICS


@dataclass
class TracerTable:
    """Conditions and abundances of tracers, one row a time.

    Row i holds the abundances at its time and the conditions that act from row i to row i + 1; the
    last row of a tracer repeats the conditions of the one before.

    Args:
        values: Density in cm⁻³, field in Habing, Av in mag, temperature in K, then abundances per
            H nucleus, float32 ``(N, 4 + S)``.
        time: Years, float64 ``(N,)``, increasing inside a tracer.
        tracer: Number of the tracer of every row, int64 ``(N,)``.
        ptr: Number, first row and length of every tracer, int64 ``(n, 3)``.
        species: Names, S of them.
        phys: Names of the conditions.
        meta: Where the table is from, as plain values: ``original_names`` as the file spells the
            species, ``origin`` as file, group and number of every tracer, attributes.

    Raises:
        ValueError: If the shapes do not belong together.
    """

    values: NDArray[np.float32]
    time: NDArray[np.float64]
    tracer: NDArray[np.int64]
    ptr: NDArray[np.int64]
    species: tuple[str, ...]
    phys: tuple[str, ...] = PHYSICS
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows, width = len(self.time), len(self.phys) + len(self.species)
        fits = self.values.shape == (rows, width) and self.tracer.shape == (rows,)
        fits = fits and self.ptr.shape[1:] == (3,) and int(self.ptr[:, 2].sum()) == rows
        if not fits:
            raise ValueError(
                f"a table of {len(self.species)} species cannot have values {self.values.shape}, "
                f"time {self.time.shape}, tracer {self.tracer.shape} and ptr {self.ptr.shape}"
            )

    def __len__(self) -> int:
        return len(self.time)

    @property
    def physics(self) -> NDArray[np.float32]:
        """Conditions in physical units, a view ``(N, 4)``."""
        return self.values[:, : len(self.phys)]

    @property
    def abundances(self) -> NDArray[np.float32]:
        """Abundances per H nucleus, a view ``(N, S)``."""
        return self.values[:, len(self.phys) :]

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> "TracerTable":
        """Some tracers in a given order, copied.

        Args:
            indices: Rows of `ptr`.
        """
        places = np.asarray(indices, dtype=np.int64)
        ptr = self.ptr[places].copy()
        rows = np.concatenate(
            [np.arange(start, start + length) for _, start, length in ptr] or [np.zeros(0, int)]
        )
        ptr[:, 1] = np.cumsum(ptr[:, 2]) - ptr[:, 2]
        meta = dict(self.meta)
        if "origin" in meta:
            meta["origin"] = [meta["origin"][place] for place in places.tolist()]
        own = (self.values[rows], self.time[rows], self.tracer[rows], ptr)
        return TracerTable(*own, self.species, self.phys, meta)


def make_table(
    values: NDArray[np.floating[Any]],
    time: NDArray[np.floating[Any]],
    lengths: Sequence[int] | NDArray[np.int64],
    species: Sequence[str],
    *,
    numbers: Sequence[int] | NDArray[np.int64] | None = None,
    meta: dict[str, Any] | None = None,
) -> TracerTable:
    """A table of tracers that lie one after the other.

    Args:
        values: Conditions and abundances, ``(N, 4 + S)``.
        time: Years, ``(N,)``.
        lengths: Rows of every tracer, ``(n,)``.
        species: Names, S of them.
        numbers: Number of every tracer, ``(n,)``; 0, 1, … by default.
        meta: Where the table is from.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    ids = np.arange(len(sizes)) if numbers is None else np.asarray(numbers, dtype=np.int64)
    ptr = np.stack([ids, np.cumsum(sizes) - sizes, sizes], axis=1).astype(np.int64)
    return TracerTable(
        np.ascontiguousarray(values, dtype=np.float32),
        np.asarray(time, dtype=np.float64),
        np.repeat(ids, sizes).astype(np.int64),
        ptr,
        tuple(species),
        meta=meta or {},
    )


def concatenate(tables: Sequence[TracerTable]) -> TracerTable:
    """Tables one after the other; the tracers are numbered anew from 0.

    Args:
        tables: At least one, all with the same species.

    Raises:
        ValueError: If there is none, or the species differ.
    """
    if not tables:
        raise ValueError("there are no tables to put together")
    first = tables[0]
    for table in tables:
        if table.species != first.species:
            differ = sorted({*table.species} ^ {*first.species})[:10]
            raise ValueError(
                f"tables with other species cannot be put together: {', '.join(differ) or 'order'}"
            )
    meta = dict(first.meta)
    if all("origin" in table.meta for table in tables):
        meta["origin"] = [place for table in tables for place in table.meta["origin"]]
    return make_table(
        np.concatenate([table.values for table in tables]),
        np.concatenate([table.time for table in tables]),
        np.concatenate([table.ptr[:, 2] for table in tables]),
        first.species,
        meta=meta,
    )
