"""Means over the molecules, atoms or entries of every rank, for losses and for metrics."""

from collections.abc import Collection, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric

Term = tuple[Tensor, Tensor]
"""A sum and the number of things summed: the form in which every mean is kept until its end."""


def world_size() -> int:
    """Number of processes that train together, 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def global_mean(total: Tensor, count: Tensor) -> Tensor:
    """Mean over all ranks, scaled so that averaged gradients are those of one process.

    ``total · world_size / Σ_ranks count``: DDP averages gradients over ranks, so every rank may
    hold any number of graphs. Without a process group it is the plain mean. A mean over nothing
    is ``0 · total``, which keeps the graph of ``total`` alive.

    Args:
        total: Sum over the things of this rank, any shape.
        count: Number of things of this rank, same shape; it takes no gradient.

    Returns:
        The mean, same shape. Only its average over ranks has a meaning as a number.
    """
    counts = count.detach().to(total.dtype, copy=True)
    ranks = world_size()
    if ranks > 1:
        dist.all_reduce(counts)
    return total * (ranks / torch.where(counts > 0, counts, torch.ones_like(counts)))


def weighted_sum(means: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum of terms times their weights.

    Args:
        means: Terms of a loss, scalars.
        weights: Weight of every term.
    """
    return torch.stack([weights[name] * mean for name, mean in means.items()]).sum()


def gather_rows(rows: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """Rows of a table of every rank, in order of rank; every rank must call it.

    Args:
        rows: Rows of this rank.

    Returns:
        All rows, on every rank.
    """
    if world_size() == 1:
        return list(rows)
    gathered: list[list[Mapping[str, float]]] = [[] for _ in range(world_size())]
    dist.all_gather_object(gathered, list(rows))
    return [row for part in gathered for row in part]


class Means(Metric):
    """Named means that merge exactly over batches and ranks of unequal size.

    `update` takes ``{name: (sum, count)}`` with scalar tensors; `compute` returns
    ``{name: mean}`` of the names that were counted at all.

    Args:
        names: Every name that may come.
        roots: Names whose sum is one of squares and whose root mean square is reported.
    """

    full_state_update = False
    sums: Tensor
    counts: Tensor

    def __init__(self, names: Sequence[str], roots: Collection[str] = ()) -> None:
        super().__init__()
        self.names = tuple(names)
        self.roots = frozenset(roots)
        self._slot = {name: slot for slot, name in enumerate(self.names)}
        zeros = torch.zeros(len(self.names), dtype=torch.float64)
        self.add_state("sums", zeros, dist_reduce_fx="sum")
        self.add_state("counts", zeros.clone(), dist_reduce_fx="sum")

    def update(self, terms: Mapping[str, Term]) -> None:
        """Add the sums and counts of a batch.

        Args:
            terms: Sum and count of every quantity the batch has, scalars.
        """
        slots = torch.tensor([self._slot[name] for name in terms], device=self.sums.device)
        for state, column in ((self.sums, 0), (self.counts, 1)):
            values = [term[column].detach().to(self.sums) for term in terms.values()]
            if values:
                state.index_add_(0, slots, torch.stack(values))

    def compute(self) -> dict[str, Tensor]:
        """Every mean with a count above zero, float64 scalars."""
        means = self.sums / self.counts
        return {
            name: means[slot].sqrt() if name in self.roots else means[slot]
            for name, slot in self._slot.items()
            if self.counts[slot] > 0
        }
