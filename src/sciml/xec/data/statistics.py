"""Constants of the conventional estimates, fitted on some training events; truths of all."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciml.xec.data.branches import Arrays, branches_of, quantities
from sciml.xec.data.root import RootFile
from sciml.xec.data.source import RootSource, cut_entries
from sciml.xec.physics.anchors import (
    DEPTH,
    DEPTH_OFFSET,
    FEWEST,
    FURTHEST,
    NANO,
    NOISE,
    OUTLIER,
    Anchors,
    Conventional,
    flight,
    photo_electrons,
)
from sciml.xec.physics.constants import LIGHT
from sciml.xec.physics.coordinates import in_fiducial, to_xyz
from sciml.xec.physics.moments import (
    DEPTH_TERMS,
    PLACE_TERMS,
    Moments,
    depth_terms,
    place_terms,
)
from sciml.xec.physics.statistics import EventStatistics

EVENTS = 4096  # that the constants are fitted on, evenly spread over the files
RIDGE = 1e-6  # of the largest diagonal entry
ROUNDS = 3  # of reweighting
PLACE_RIDGE = 1e-3
DEPTH_RIDGE = 3e-6
FEW = 1000  # events with which a ridge counts twice
USUAL_WEIGHT = 8.5e-8  # GeV a photon, where no energy is known
USUAL_DEPTH = 4.0  # cm
TIMES = {"timing", "xyz", "vertex"}
SPAN = 1 << 16  # entries whose truths are read together
PHOTON_SPAN = 512  # the same with the photons of the sensors


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


def read_truths(
    source: RootSource, names: Sequence[str], *, photons: bool = False
) -> Iterator[Arrays]:
    """Some truths of all events that the cuts leave, in the files' order, a part at a time.

    Args:
        source: The files.
        names: Truths that all files have.
        photons: Read ``npho`` too, which takes long; nothing else of the sensors is read.

    Returns:
        Arrays by name, as `RootSource.read` has them.
    """
    wanted = (*names, "npho") if photons else tuple(names)
    for file in source.files:
        file.check_unchanged()
        opened = RootFile(file.path, source.tree)
        try:
            for start, stop in cut_entries(file.edges, PHOTON_SPAN if photons else SPAN):
                raw = opened.read(branches_of(file.layout, wanted), start, stop)
                rows = quantities(raw, file.layout, wanted, source.units)
                kept = slice(None) if file.kept is None else file.kept[start:stop]
                yield {name: values[kept] for name, values in rows.items()}
        finally:
            opened.close()


class Line:
    """Normal equations of a linear function, filled some events at a time.

    Args:
        terms: Numbers k of an event.
    """

    def __init__(self, terms: int) -> None:
        self.count = 0
        self.left = torch.zeros(terms, terms, dtype=torch.float64)
        self.right = torch.zeros(terms, dtype=torch.float64)

    def add(self, terms: Tensor, values: Tensor) -> None:
        """Take in events; those that are not finite are left out.

        Args:
            terms: ``(b, k)``.
            values: What the function should give, ``(b,)``.
        """
        finite = values.isfinite() & terms.isfinite().all(1)
        terms, values = terms[finite].double(), values[finite].double()
        self.count += len(values)
        self.left += terms.T @ terms
        self.right += terms.T @ values

    def solve(self, ridge: float) -> NDArray[np.float32]:
        """Factors of the terms, float32 ``(k,)``.

        Args:
            ridge: Added to the mean squares of all terms, in units of them; few events add more.
        """
        scale = (self.left.diagonal() / self.count).sqrt().clamp(min=1e-12)
        left = self.left / self.count / scale / scale[:, None]
        left += ridge * (1 + FEW / self.count) * torch.eye(len(scale), dtype=torch.float64)
        factors = torch.linalg.solve(left, self.right / self.count / scale) / scale
        found: NDArray[np.float32] = factors.float().numpy()
        return found


class _Fit:
    """Normal equations of the energy, and of the delays of the sensors."""

    def __init__(self) -> None:
        self.conventional = Conventional()
        self.energy = torch.zeros(6, 7, dtype=torch.float64)  # left side, right side
        self.times: list[tuple[Tensor, Tensor, Tensor]] = []
        self.depths: list[Tensor] = []
        self.place = [Line(PLACE_TERMS), Line(PLACE_TERMS)]
        self.depth = Line(DEPTH_TERMS)
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
            self._add_place(anchors, events["uvw"])
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

    def _add_place(self, anchors: Anchors, uvw: Tensor) -> None:
        """Events near the edges, and those whose brightest place is another gamma's, tell less."""
        gap = uvw[:, :2] - anchors.uv
        good = in_fiducial(uvw) & (gap.abs() < FURTHEST).all(1)
        around = Moments(*(part[good] for part in anchors.moments))
        centre = self.conventional.centre(anchors.place[good])
        terms = place_terms(around, anchors.uv[good] - centre)
        for axis, line in enumerate(self.place):
            line.add(terms[:, axis], gap[good, axis])
        self.depth.add(depth_terms(around), (uvw[good, 2] + DEPTH_OFFSET).log())

    def result(self) -> EventStatistics:
        depth = torch.cat(self.depths).median() if self.depths else torch.tensor(USUAL_DEPTH)
        numbers = self._weights(), self._walk(), float(depth), self.events
        if not self.depth.count:
            return EventStatistics(*numbers)
        place = np.stack([line.solve(PLACE_RIDGE) for line in self.place])
        return EventStatistics(*numbers, place, self.depth.solve(DEPTH_RIDGE))

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
