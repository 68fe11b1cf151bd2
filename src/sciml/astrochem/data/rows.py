"""Scaled rows of a part, in memory or from its file (N rows, b windows, S species)."""

import os
from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciml.astrochem.data.arrays import ArrayFile
from sciml.astrochem.data.grid import SLAB
from sciml.astrochem.physics.scaling import AbundanceScaler

CONDITIONS = 4


class Rows(ABC):
    """Conditions and scaled abundances of a part.

    Args:
        count: Rows N.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    @abstractmethod
    def take(self, starts: NDArray[np.int64], length: int) -> tuple[Tensor, Tensor]:
        """Windows of consecutive rows; beyond the last row it is repeated.

        Args:
            starts: First row of every window, ``(b,)``.
            length: Rows of a window.

        Returns:
            Conditions in physical units, float32 ``(b, length, 4)``, and scaled abundances,
            float32 ``(b, length, S)``.
        """

    def close(self) -> None:
        """Close what is open; it is opened again when rows are asked for."""
        return


class MemoryRows(Rows):
    """Rows that were read and scaled once.

    Args:
        array: The file.
        scaler: Scales the abundances.
    """

    def __init__(self, array: ArrayFile, scaler: AbundanceScaler) -> None:
        count, width = array.shape
        super().__init__(count)
        self.physics = np.empty((count, CONDITIONS), dtype=np.float32)
        self.scaled = np.empty((count, width - CONDITIONS), dtype=np.float32)
        step = max(1, SLAB // array.row_bytes)
        for first in range(0, count, step):
            rows = array.read(first, min(first + step, count))
            self.physics[first : first + step] = rows[:, :CONDITIONS]
            abundances = torch.from_numpy(np.ascontiguousarray(rows[:, CONDITIONS:]))
            self.scaled[first : first + step] = scaler.scale(abundances).numpy()

    def take(self, starts: NDArray[np.int64], length: int) -> tuple[Tensor, Tensor]:
        places = np.minimum(starts[:, None] + np.arange(length), self.count - 1)
        # several times faster than indexing a tensor, which copies number by number
        physics, scaled = self.physics.take(places, axis=0), self.scaled.take(places, axis=0)
        return torch.from_numpy(physics), torch.from_numpy(scaled)


class FileRows(Rows):
    """Rows that are read when they are asked for.

    The file is read, not mapped: pages of a mapped file count as memory of the process.

    Args:
        array: The file.
        scaler: Scales the abundances.
    """

    def __init__(self, array: ArrayFile, scaler: AbundanceScaler) -> None:
        super().__init__(array.shape[0])
        if array.dtype != np.float32:
            raise ValueError(f"{array.path} holds {array.dtype} and not float32; make it anew")
        self.array = array
        self.scaler = scaler
        self._descriptor: int | None = None

    def take(self, starts: NDArray[np.int64], length: int) -> tuple[Tensor, Tensor]:
        width = self.array.shape[1]
        rows = np.empty((len(starts), length, width), dtype=np.float32)
        for window in np.argsort(starts, kind="stable").tolist():  # in the order of the file
            there = min(length, self.count - int(starts[window]))
            self._read(rows[window, :there], int(starts[window]))
            rows[window, there:] = rows[window, there - 1]
        values = torch.from_numpy(rows)
        scaled = self.scaler.scale(values[..., CONDITIONS:].contiguous())
        return values[..., :CONDITIONS].contiguous(), scaled

    def _read(self, out: NDArray[np.float32], first: int) -> None:
        if self._descriptor is None:
            self._descriptor = os.open(self.array.path, os.O_RDONLY)
        place = self.array.offset + first * self.array.row_bytes
        if os.preadv(self._descriptor, [out.data], place) != out.nbytes:
            raise ValueError(f"{self.array.path} became shorter while it was read; make it anew")

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_descriptor": None}  # a loader process opens its own
