"""Labelled columns of numbers in a file, read by rows with bounded memory."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SLAB = 1 << 25  # bytes read together: 32 MiB


class Grid(ABC):
    """Rows of numbers under labels.

    Args:
        path: The file.
        labels: Names of the columns.
        rows: Number of rows.
    """

    def __init__(self, path: Path, labels: Sequence[str], rows: int) -> None:
        self.path = path
        self.labels = tuple(labels)
        self.rows = rows

    @abstractmethod
    def read(self, first: int, last: int, places: Sequence[int]) -> NDArray[Any]:
        """Some columns of consecutive rows, in the type of the file.

        Args:
            first: First row.
            last: Row after the last one.
            places: Columns.

        Returns:
            ``(last - first, len(places))``.
        """

    def column(self, place: int) -> NDArray[np.float64]:
        """A whole column.

        Args:
            place: Which one.
        """
        parts = [self.read(*rows, [place])[:, 0].astype(np.float64) for rows in self.slabs()]
        return np.concatenate(parts or [np.zeros(0)])

    def gather(self, rows: NDArray[np.int64], places: Sequence[int]) -> NDArray[Any]:
        """Rows in any order; the file is read once from front to back.

        Args:
            rows: Which rows, each once.
            places: Columns.
        """
        order = np.argsort(rows)
        wanted = rows[order]
        parts = []
        for first, last in self.slabs():
            here = wanted[np.searchsorted(wanted, first) : np.searchsorted(wanted, last)]
            if len(here):
                low, high = int(here[0]), int(here[-1]) + 1
                parts.append(self.read(low, high, places)[here - low])
        found = np.concatenate(parts) if parts else self.read(0, 0, places)
        result = np.empty_like(found)
        result[order] = found
        return result

    def slabs(self) -> Iterator[tuple[int, int]]:
        """First and last row of consecutive parts of the file."""
        step = max(1, SLAB // (8 * max(len(self.labels), 1)))
        for first in range(0, self.rows, step):
            yield first, min(first + step, self.rows)
