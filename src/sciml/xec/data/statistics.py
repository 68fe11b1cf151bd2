"""Constants of the conventional estimates, fitted on some of the training events."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciml.xec.data.source import RootSource
from sciml.xec.physics.anchors import (
    DEPTH,
    FEWEST,
    NANO,
    NOISE,
    OUTLIER,
    Conventional,
    flight,
    photo_electrons,
)
from sciml.xec.physics.constants import LIGHT
from sciml.xec.physics.coordinates import to_xyz
from sciml.xec.physics.statistics import EventStatistics

EVENTS = 4096  # that the constants are fitted on, evenly spread over the files
RIDGE = 1e-6  # of the largest diagonal entry
ROUNDS = 3  # of reweighting
USUAL_WEIGHT = 8.5e-8  # GeV a photon, where no energy is known
USUAL_DEPTH = 4.0  # cm
TIMES = {"timing", "xyz", "vertex"}


def measure(source: RootSource) -> EventStatistics:
    """Fit the constants; those without a truth in the files keep usual values.

    Args:
        source: Training events.
    """
    chunks = np.arange(len(source.chunk_rows))
    step = max(1, sum(source.chunk_rows) // EVENTS)
    fit = _Fit()
    for chunk in chunks[::step]:
        rows = source.read(int(chunk))
        arrays = {name: np.ascontiguousarray(values) for name, values in rows.items()}
        fit.add({name: torch.from_numpy(values) for name, values in arrays.items()})
    return fit.result()


class _Fit:
    """Normal equations of the energy, and of the delays of the sensors."""

    def __init__(self) -> None:
        self.conventional = Conventional()
        self.energy = torch.zeros(6, 7, dtype=torch.float64)  # left side, right side
        self.times: list[tuple[Tensor, Tensor, Tensor]] = []
        self.depths: list[Tensor] = []
        self.events = 0

    def add(self, events: Mapping[str, Tensor]) -> None:
        self.events += len(events["npho"])
        for start in range(0, len(events["npho"]), 256):  # bounds the memory
            self._add({name: values[start : start + 256] for name, values in events.items()})

    def _add(self, events: Mapping[str, Tensor]) -> None:
        anchors = self.conventional(events["npho"], events["relative_time"])
        if "energy" in events:  # relative errors count
            shares = (anchors.faces / events["energy"][:, None]).double()
            self.energy += shares.T @ torch.cat([shares, torch.ones(len(shares), 1)], 1)
        if "uvw" in events:
            self.depths.append(events["uvw"][:, 2])
        if events.keys() >= TIMES:
            path = torch.linalg.vector_norm(events["xyz"] - events["vertex"], dim=1)
            true = events["timing"] + path / LIGHT - NANO * events["time_min"]
            source = to_xyz(torch.cat([anchors.uv, torch.full_like(anchors.uv[:, :1], DEPTH)], 1))
            expected = flight(source, self.conventional.position)
            measured = NANO * events["relative_time"] - expected - true[:, None]
            electrons = photo_electrons(anchors.light)
            used = anchors.timed & (electrons >= FEWEST)
            used[:, torch.arange(used.shape[1]) % 8 != self.events % 8] = False  # is plenty
            some = electrons[used]
            weight = 1 / (NOISE[0] / some + NOISE[1])
            self.times.append((some.rsqrt(), measured[used], weight))

    def result(self) -> EventStatistics:
        depth = torch.cat(self.depths).median() if self.depths else torch.tensor(USUAL_DEPTH)
        return EventStatistics(self._weights(), self._walk(), float(depth), self.events)

    def _weights(self) -> NDArray[np.float32]:
        left, right = self.energy[:, :6], self.energy[:, 6]
        if not left.any():
            return np.full(6, USUAL_WEIGHT, np.float32)
        left = left + RIDGE * left.diagonal().max() * torch.eye(6, dtype=torch.float64)
        weights: NDArray[np.float32] = torch.linalg.solve(left, right).float().numpy()
        return weights

    def _walk(self) -> tuple[float, float]:
        """Weighted straight line through the delays, outliers weighted down."""
        if not self.times:
            return 0.0, 0.0
        root, late, weight = (torch.cat(parts).double() for parts in zip(*self.times, strict=True))
        table = torch.stack([root, torch.ones_like(root)], 1)
        line = torch.stack([torch.zeros(()), late.median()]).double()
        for _ in range(ROUNDS):
            own = weight / (1 + ((late - table @ line) / OUTLIER).square())
            line = torch.linalg.solve(table.T @ (own[:, None] * table), table.T @ (own * late))
        return float(line[0]), float(line[1])
