"""Checks and repairs of the rows of tracers (N rows, n tracers, S species)."""

from typing import Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray

from sciml.astrochem.physics.constants import FLOOR, PHYSICS


class Faults:
    """Abundances that are negative or no number; they are set to the floor and counted.

    Args:
        where: Group and file, for the sentence.
        species: Names of the columns.
    """

    def __init__(self, where: str, species: tuple[str, ...]) -> None:
        self.where = where
        self.species = species
        self.count = 0
        self.first = ""

    def add(
        self,
        abundances: NDArray[np.float32],
        numbers: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> None:
        """Look at some tracers and repair them in place.

        Args:
            abundances: ``(N, S)``.
            numbers: Number of every tracer, ``(n,)``.
            lengths: Their rows, ``(n,)``.
        """
        bad = ~((abundances >= 0) & np.isfinite(abundances))
        count = int(bad.sum())
        if not count:
            return
        if not self.count:
            row, column = np.argwhere(bad)[0].tolist()
            tracer, place = _locate(row, numbers, lengths)
            self.first = (
                f"{self.species[column]} is {abundances[row, column]:g} "
                f"in row {place} of tracer {tracer}"
            )
        self.count += count
        abundances[bad] = FLOOR

    def close(self, on_bad: Literal["error", "clip"]) -> None:
        """Report what was found.

        Args:
            on_bad: Whether it is an error.

        Raises:
            ValueError: If it is.
        """
        if not self.count:
            return
        found = f"{self.count} abundances of {self.where} are negative or no number, the first: "
        if on_bad == "error":
            raise ValueError(
                f"{found}{self.first}; correct them, or use --data.reading.on_bad clip "
                "(of verbs --reading.on_bad clip)"
            )
        rank_zero_info(f"{found}{self.first}; they were set to {FLOOR:g}")


def check_times(
    time: NDArray[np.float64],
    numbers: NDArray[np.int64],
    lengths: NDArray[np.int64],
    where: str,
) -> None:
    """Stop unless time increases inside every tracer.

    Args:
        time: Years, ``(N,)``.
        numbers: Number of every tracer, ``(n,)``.
        lengths: Their rows, ``(n,)``.
        where: Group and file, for the sentence.

    Raises:
        ValueError: If it does not.
    """
    increases = np.diff(time) > 0
    increases[np.cumsum(lengths)[:-1] - 1] = True  # from one tracer to the next
    increases &= np.isfinite(time[1:])
    if not increases.all():
        row = int(np.argmin(increases)) + 1
        tracer, place = _locate(row, numbers, lengths)
        raise ValueError(
            f"the time of tracer {tracer} in {where} does not increase at its row {place}: "
            f"{time[row]:g} yr after {time[row - 1]:g} yr; sort or correct its rows"
        )


def check_physics(
    physics: NDArray[np.float32],
    numbers: NDArray[np.int64],
    lengths: NDArray[np.int64],
    where: str,
) -> None:
    """Stop unless all conditions are positive: networks take their logarithm.

    Args:
        physics: ``(N, 4)``.
        numbers: Number of every tracer, ``(n,)``.
        lengths: Their rows, ``(n,)``.
        where: Group and file, for the sentence.

    Raises:
        ValueError: If one is not.
    """
    good = (physics > 0) & np.isfinite(physics)
    if not good.all():
        row, column = np.argwhere(~good)[0].tolist()
        tracer, place = _locate(row, numbers, lengths)
        raise ValueError(
            f"{PHYSICS[column]} is {physics[row, column]:g} in row {place} of tracer {tracer} in "
            f"{where} ({int((~good).sum())} conditions are not positive); correct them"
        )


def shift_physics(physics: NDArray[np.float32], lengths: NDArray[np.int64]) -> None:
    """Bring conditions stored with the state they made to the interval they act on, in place.

    Args:
        physics: ``(N, 4)``; row i becomes row i + 1, the last row of a tracer stays.
        lengths: Rows of every tracer, ``(n,)``.
    """
    following = np.arange(1, len(physics) + 1)
    ends = np.cumsum(lengths)
    following[ends - 1] = ends - 1
    physics[:] = physics[following]


def _locate(row: int, numbers: NDArray[np.int64], lengths: NDArray[np.int64]) -> tuple[int, int]:
    """Number of the tracer a row belongs to, and its row there."""
    ends = np.cumsum(lengths)
    place = int(np.searchsorted(ends, row, side="right"))
    return int(numbers[place]), row - int(ends[place] - lengths[place])
