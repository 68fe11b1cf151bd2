"""What an emulator has to beat (n training tracers, b tracers, t steps, S species).

Every baseline sees the initial abundances and the conditions of a tracer and nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PHYSICS = 4  # conditions
PIECE = 16_384  # rows at once
NEAREST = 1e-12  # dex², added to a distance before it is inverted


class Tracers(Protocol):
    """Whole tracers: rows of conditions and abundances, and where each tracer lies."""

    @property
    def values(self) -> NDArray[np.float32]:
        """Conditions in physical units, then abundances, ``(N, 4 + S)``."""
        ...

    @property
    def ptr(self) -> NDArray[np.int64]:
        """Number, first row and length of every tracer, ``(n, 3)``."""
        ...


@dataclass(frozen=True)
class Gathered:
    """Tracers of several tables.

    Args:
        values: Conditions in physical units, then abundances, ``(N, 4 + S)``.
        ptr: Number, first row and length of every tracer, ``(n, 3)``.
    """

    values: NDArray[np.float32]
    ptr: NDArray[np.int64]


class Baseline(ABC):
    """A prediction from training tracers in closed form.

    Args:
        lo: Abundance below which nothing is distinguished.
        hi: Abundance above which nothing is distinguished.
    """

    def __init__(self, lo: float = 1e-20, hi: float = 1.0) -> None:
        self.lo = lo
        self.hi = hi

    @abstractmethod
    def fit(self, tracers: Tracers) -> None:
        """Learn from whole tracers.

        Args:
            tracers: Training tracers, rows of conditions and abundances.
        """

    @abstractmethod
    def rollout(self, x0: Tensor, phys: Tensor) -> Tensor:
        """Abundances after every step.

        Args:
            x0: Initial abundances per H nucleus, ``(b, S)``.
            phys: Conditions of the steps in physical units, ``(b, t, 4)``.

        Returns:
            Abundances per H nucleus, float64 ``(b, t, S)``.
        """

    def logarithm(self, abundance: Tensor) -> Tensor:
        """log10 of clipped abundances, float64, same shape.

        Args:
            abundance: Per H nucleus.
        """
        return abundance.double().clamp(self.lo, self.hi).log10()


class Persistence(Baseline):
    """The initial abundances for ever."""

    def fit(self, tracers: Tracers) -> None:
        pass

    def rollout(self, x0: Tensor, phys: Tensor) -> Tensor:
        return x0.double()[:, None].expand(-1, phys.shape[1], -1).clone()


class MeanHistory(Baseline):
    """The mean logarithm of the training tracers at the same step, the last one from then on.

    Args:
        lo: Abundance below which nothing is distinguished.
        hi: Abundance above which nothing is distinguished.
    """

    def __init__(self, lo: float = 1e-20, hi: float = 1.0) -> None:
        super().__init__(lo, hi)
        self.history = torch.empty(0)

    def fit(self, tracers: Tracers) -> None:
        values, starts, lengths = parts(tracers)
        longest = int(lengths.max())
        sums = torch.zeros(longest, values.shape[1] - PHYSICS, dtype=torch.float64)
        counts = torch.zeros(longest, 1, dtype=torch.float64)
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):  # one at a time:
            # the logarithms of a large set do not fit in memory
            sums[:length] += self.logarithm(values[start : start + length, PHYSICS:])
            counts[:length] += 1
        self.history = (sums / counts)[1:]

    def rollout(self, x0: Tensor, phys: Tensor) -> Tensor:
        steps = torch.arange(phys.shape[1]).clamp(max=len(self.history) - 1)
        return (10.0 ** self.history[steps]).expand(len(x0), -1, -1).clone()


class NearestHistories(Baseline):
    """Average of the k training tracers whose conditions were most alike.

    The distance is the mean squared difference of log10 of the conditions over all steps that both
    have; the chemistry of the tracer plays no part. Logarithms of the neighbours' abundances are
    averaged with weights of inverse distance. A neighbour that ends earlier keeps its last state.

    Args:
        lo: Abundance below which nothing is distinguished.
        hi: Abundance above which nothing is distinguished.
        neighbors: Number k.
    """

    def __init__(self, lo: float = 1e-20, hi: float = 1.0, neighbors: int = 5) -> None:
        super().__init__(lo, hi)
        self.neighbors = neighbors

    def fit(self, tracers: Tracers) -> None:
        self.values, self.starts, self.lengths = parts(tracers)
        steps = torch.arange(max(1, int(self.lengths.max()) - 1))
        self.exists = steps < self.lengths[:, None] - 1
        rows = self.starts[:, None] + steps.minimum(self.lengths[:, None] - 1)
        self.history = self.values[rows, :PHYSICS].double().log10()

    def rollout(self, x0: Tensor, phys: Tensor) -> Tensor:
        distance, nearest = self.distances(phys).topk(
            min(self.neighbors, len(self.lengths)), largest=False
        )
        weight = 1 / (distance + NEAREST)
        weight = weight / weight.sum(1, keepdim=True)
        steps = torch.arange(1, phys.shape[1] + 1)
        mean = torch.zeros(len(x0), len(steps), x0.shape[1], dtype=torch.float64)
        for k in range(nearest.shape[1]):  # few, and each is as large as the answer
            neighbor = nearest[:, k, None]
            rows = self.starts[neighbor] + steps.minimum(self.lengths[neighbor] - 1)
            mean += weight[:, k, None, None] * self.logarithm(self.values[rows][..., PHYSICS:])
        return 10.0**mean

    def distances(self, phys: Tensor) -> Tensor:
        """Mean squared difference to every training tracer in dex², ``(b, n)``.

        Args:
            phys: Conditions of the steps in physical units, ``(b, t, 4)``.
        """
        common = min(phys.shape[1], self.history.shape[1])
        asked = phys[:, :common].double().log10().flatten(1)
        known = self.history[:, :common].flatten(1)
        mask = self.exists[:, :common, None].expand(-1, -1, PHYSICS).flatten(1).double()
        square = asked.square() @ mask.T - 2 * asked @ (known * mask).T
        square = square + (known.square() * mask).sum(1)
        return square.clamp(min=0.0) / mask.sum(1).clamp(min=1.0)


class LinearStep(Baseline):
    """Dynamic mode decomposition with control: a linear step in principal components.

    ``z' - z = W [z, log10 p, 1]`` with z the leading principal components of the scaled
    abundances, fitted by ridge regression on all steps of the training tracers. Components are
    clamped to the range they had in training, so that no rollout diverges.

    Args:
        lo: Abundance that scales to 0.
        hi: Abundance that scales to 1.
        components: Principal components kept.
        ridge: Penalty, relative to the number of steps, for inputs of unit variance.

    Source:
        J. L. Proctor, S. L. Brunton and J. N. Kutz, SIAM J. Appl. Dyn. Syst. 15 (2016) 142.
    """

    def __init__(
        self,
        lo: float = 1e-20,
        hi: float = 1.0,
        components: int = 32,
        ridge: float = 1e-3,
    ) -> None:
        super().__init__(lo, hi)
        self.components = components
        self.ridge = ridge

    def fit(self, tracers: Tracers) -> None:
        values, starts, _ = parts(tracers)
        first = torch.ones(len(values), dtype=torch.bool)
        first[starts] = False
        after = first.nonzero()[:, 0]  # rows that have a row before them
        physics = values[:, :PHYSICS].double().log10()
        pieces = values[:, PHYSICS:].split(PIECE)  # all logarithms in float64 would need gigabytes
        self.center = sum(self.logarithm(piece).sum(0) for piece in pieces) / len(values)
        covariance = sum(deviation.T @ deviation for deviation in map(self._deviation, pieces))
        axes = torch.linalg.eigh(covariance)[1].flip(1)
        self.axes = axes[:, : min(self.components, axes.shape[1])]
        state = torch.cat([self._deviation(piece) @ self.axes for piece in pieces])
        self.limits = state.amin(0), state.amax(0)
        self.spread = state.std(0).clamp(min=1e-12)
        self.conditions = physics.mean(0), physics.std(0).clamp(min=1e-12)
        inputs = self._inputs(state[after - 1], physics[after - 1])
        square = inputs.T @ inputs
        penalty = self.ridge * len(after) * torch.eye(len(square), dtype=square.dtype)
        penalty[-1, -1] = 0.0  # the constant is not penalised
        increments = state[after] - state[after - 1]
        self.weight = torch.linalg.solve(square + penalty, inputs.T @ increments)

    def rollout(self, x0: Tensor, phys: Tensor) -> Tensor:
        state = self._deviation(x0) @ self.axes
        physics = phys.double().log10()
        states = []
        for step in range(phys.shape[1]):  # each step starts from the one before
            state = state + self._inputs(state, physics[:, step]) @ self.weight
            state = state.clamp(*self.limits)
            states.append(state)
        logarithm = torch.stack(states, 1) @ self.axes.T + self.center
        abundance: Tensor = 10.0**logarithm
        return abundance.clamp(self.lo, self.hi)

    def _deviation(self, abundance: Tensor) -> Tensor:
        return self.logarithm(abundance) - self.center

    def _inputs(self, state: Tensor, physics: Tensor) -> Tensor:
        mean, spread = self.conditions
        one = torch.ones(len(state), 1, dtype=state.dtype)
        return torch.cat([state / self.spread, (physics - mean) / spread, one], 1)


BASELINES: dict[str, type[Baseline]] = {
    "persistence": Persistence,
    "mean": MeanHistory,
    "knn": NearestHistories,
    "dmd": LinearStep,
}


def gather(tables: Iterable[Any]) -> Gathered:
    """All tracers of some tables as one table in memory.

    Args:
        tables: Things with ``values`` and ``ptr``.
    """
    values, pointers, rows = [], [], 0
    for table in tables:
        values.append(np.asarray(table.values))
        pointers.append(table.ptr + np.array([0, rows, 0]))
        rows += len(table.values)
    return Gathered(np.concatenate(values), np.concatenate(pointers))


def parts(tracers: Tracers) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of a table, and where its tracers lie.

    Args:
        tracers: Whole tracers.

    Returns:
        Rows ``(N, 4 + S)``, first row of every tracer ``(n,)`` and number of its rows ``(n,)``.
    """
    pointer = torch.as_tensor(tracers.ptr)
    return torch.as_tensor(tracers.values), pointer[:, 1], pointer[:, 2]
