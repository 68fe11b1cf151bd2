"""What networks are set up with, from the training tracers alone (S species, N rows)."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciml.astrochem.data.artefacts import Artefacts
from sciml.astrochem.data.ranges import rounded_ranges
from sciml.astrochem.data.table import TracerTable
from sciml.astrochem.physics.scaling import AbundanceScaler
from sciml.astrochem.physics.species import charges, stoichiometric_matrix
from sciml.astrochem.physics.statistics import ChemistryStatistics, motion

MOST_ROWS = 200_000  # that mean and covariance are taken from, evenly spread
ABSENT = 1e-15  # total of an element below which its drift does not count
NARROW = 0.05  # least standard deviation of the motion, a factor of 1.12
NEUTRAL = 1e-6  # net charge in units of the electrons that counts as none


def measure(artefacts: Artefacts, lo: float, hi: float) -> ChemistryStatistics:
    """Statistics of the training tracers; taken once and kept with the artefacts.

    Args:
        artefacts: Where the tracers are.
        lo: Abundance that scales to 0.
        hi: Abundance that scales to 1.
    """
    file = artefacts.folder / f"statistics_{lo:g}_{hi:g}.npz"
    if not file.is_file():
        sums = _Sums(artefacts, AbundanceScaler(lo, hi))
        for chunk in artefacts.chunks("train"):
            sums.add(chunk)
        part = file.with_name(f".{file.name}.{uuid4().hex}.part")
        with part.open("wb") as stream:
            np.savez(stream, **sums.result())
        part.replace(file)
    with np.load(file) as stored:
        numbers = {name: torch.from_numpy(stored[name]) for name in stored.files}
    content = artefacts.metadata
    return ChemistryStatistics(
        species=artefacts.species,
        elements=tuple(content["elements"]),
        lo=lo,
        hi=hi,
        physics_range=numbers["physics_range"],
        physics_mean=numbers["physics_mean"],
        physics_std=numbers["physics_std"],
        physics_motion=numbers["physics_motion"],
        mean=numbers["mean"],
        covariance=numbers["covariance"],
        dt=content["dt_yr"],
        constant_dt=content["constant_dt"],
        charge_conserved=bool(numbers["net_charge"] <= NEUTRAL),
        element_drift=float(numbers["element_drift"]),
        rows=content["rows"]["train"],
        tracers=content["tracers"]["train"],
    )


class _Sums:
    """Running sums over chunks of whole tracers."""

    def __init__(self, artefacts: Artefacts, scaler: AbundanceScaler) -> None:
        species = artefacts.species
        self.scaler = scaler
        self.matrix = stoichiometric_matrix(species, artefacts.metadata["elements"])
        self.charges = charges(species)
        self.electron = species.index("E-") if "E-" in species else None
        self.stride = -(-artefacts.metadata["rows"]["train"] // MOST_ROWS)
        self.low, self.high = np.full(4, np.inf, "f4"), np.zeros(4, "f4")
        self.rows = self.sampled = 0
        self.logs = np.zeros((2, 4))
        self.motions: list[float] = []  # of every tracer
        self.shift: Tensor | None = None
        self.first = torch.zeros(len(species), dtype=torch.float64)
        self.second = torch.zeros(len(species), len(species), dtype=torch.float64)
        self.net = 0.0 if self.electron is not None else np.inf
        self.drift = 0.0

    def add(self, chunk: TracerTable) -> None:
        """Take in some tracers."""
        physics = chunk.physics
        self.low = np.minimum(self.low, physics.min(0))
        self.high = np.maximum(self.high, physics.max(0))
        logs = np.log10(physics.astype(np.float64))
        self.logs += np.stack([logs.sum(0), (logs**2).sum(0)])
        self._add_scaled(chunk.abundances[(-self.rows) % self.stride :: self.stride])
        self.rows += len(chunk)
        for _, first, length in chunk.ptr:
            if length > 2:  # the conditions of the last row act on nothing
                steps = torch.from_numpy(physics[first : first + length - 1])
                self.motions.append(float(motion(steps[None])))
        for rows, starts in _parts(chunk):
            self._add_laws(rows.astype(np.float64), starts)

    def _add_scaled(self, abundances: NDArray[np.float32]) -> None:
        if not len(abundances):
            return
        scaled = self.scaler.scale(torch.from_numpy(abundances.astype(np.float64)))
        if self.shift is None:  # sums about a mean of some rows keep the digits of small variances
            self.shift = scaled.mean(0)
        centred = scaled - self.shift
        self.sampled += len(scaled)
        self.first += centred.sum(0)
        self.second += centred.T @ centred

    def _add_laws(self, abundances: NDArray[np.float64], starts: NDArray[np.int64]) -> None:
        totals = abundances @ self.matrix
        lengths = np.diff(np.append(starts, len(totals)))
        begun = np.repeat(totals[starts], lengths, axis=0)
        counts = begun > ABSENT
        if counts.any():
            gaps = np.abs(totals - begun)[counts] / begun[counts]
            self.drift = max(self.drift, float(gaps.max()))
        if self.electron is not None:
            net = np.abs(abundances @ self.charges)
            electrons = np.maximum(abundances[:, self.electron], np.finfo(np.float32).tiny)
            self.net = max(self.net, float((net / electrons).max()))

    def result(self) -> dict[str, Any]:
        """Arrays of the file of statistics."""
        mean = self.logs[0] / self.rows
        assert self.shift is not None
        offset = self.first / self.sampled
        spread = self.second - self.sampled * torch.outer(offset, offset)
        return {
            "physics_range": np.array(rounded_ranges(self.low, self.high)),
            "physics_mean": mean,
            "physics_std": np.sqrt(np.maximum(self.logs[1] / self.rows - mean**2, 0)),
            "physics_motion": _mean_and_std(self.motions),
            "mean": (self.shift + offset).numpy(),
            "covariance": (spread / max(self.sampled - 1, 1)).numpy(),
            "net_charge": np.array(self.net),
            "element_drift": np.array(self.drift),
        }


def _mean_and_std(motions: list[float]) -> NDArray[np.float64]:
    """Of the tracers; never narrower than `NARROW`, for few tracers may be alike."""
    if not motions:
        return np.array([0.0, np.inf])
    return np.array([np.mean(motions), max(float(np.std(motions)), NARROW)])


def _parts(chunk: TracerTable) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Abundances with the first row of every tracer, few tracers at a time: float64 is wide."""
    most = 4096  # rows
    first = 0
    while first < len(chunk.ptr):
        held = np.cumsum(chunk.ptr[first:, 2])
        last = first + max(1, int(np.searchsorted(held, most, side="right")))
        begin = int(chunk.ptr[first, 1])
        end = int(chunk.ptr[last - 1, 1] + chunk.ptr[last - 1, 2])
        yield chunk.abundances[begin:end], chunk.ptr[first:last, 1] - begin
        first = last
