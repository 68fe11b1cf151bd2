"""Preprocessed tracers: a folder named after the content of the files and how they were read.

Sizes: N rows, n tracers, S species.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciml.astrochem.data.arrays import ArrayFile
from sciml.astrochem.data.grid import SLAB
from sciml.astrochem.data.table import TracerTable, make_table


@dataclass(frozen=True)
class Artefacts:
    """A finished folder.

    Args:
        folder: Where it is.
    """

    folder: Path

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Counts, checksums and steps."""
        content: dict[str, Any] = json.loads((self.folder / "metadata.json").read_text())
        return content

    @property
    def species(self) -> tuple[str, ...]:
        """Names of the abundances."""
        return tuple(json.loads((self.folder / "species.json").read_text()))

    def has(self, part: str) -> bool:
        """Whether there are tracers of a part.

        Args:
            part: Such as ``test``.
        """
        return bool(self.metadata["tracers"].get(part))

    def rows(self, part: str) -> ArrayFile:
        """Conditions and abundances, float32 ``(N, 4 + S)``.

        Args:
            part: Such as ``train``.
        """
        return ArrayFile(self.folder / f"{part}.npy")

    def time(self, part: str) -> NDArray[np.float64]:
        """Years, ``(N,)``.

        Args:
            part: Such as ``train``.
        """
        time: NDArray[np.float64] = np.load(self.folder / f"{part}_time.npy")
        return time

    def ptr(self, part: str) -> NDArray[np.int64]:
        """Number, first row and length of every tracer, ``(n, 3)``.

        Args:
            part: Such as ``train``.
        """
        ptr: NDArray[np.int64] = np.load(self.folder / f"{part}_tracers.npy")
        return ptr

    def chunks(self, part: str, limit: int = SLAB) -> Iterator[TracerTable]:
        """Tables of a few whole tracers.

        Args:
            part: Such as ``train``.
            limit: Bytes of rows in a table; a longer tracer is a table of its own.
        """
        ptr, time, rows, species = self.ptr(part), self.time(part), self.rows(part), self.species
        origin = json.loads((self.folder / "split.json").read_text())[part]
        names = self.metadata["original_names"]
        most = max(1, limit // rows.row_bytes)
        first = 0
        while first < len(ptr):
            held = np.cumsum(ptr[first:, 2])
            last = first + max(1, int(np.searchsorted(held, most, side="right")))
            begin, end = int(ptr[first, 1]), int(ptr[last - 1, 1] + ptr[last - 1, 2])
            yield make_table(
                rows.read(begin, end),
                time[begin:end],
                ptr[first:last, 2],
                species,
                numbers=ptr[first:last, 0],
                meta={"original_names": tuple(names), "origin": origin[first:last]},
            )
            first = last


def find(recipe_key: str, home: Path) -> Artefacts | None:
    """The finished folder of a recipe, None if there is none.

    Args:
        recipe_key: Its key.
        home: Where artefacts are kept.
    """
    folder = home / recipe_key
    return Artefacts(folder) if (folder / "metadata.json").is_file() else None
