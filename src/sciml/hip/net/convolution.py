"""Sum over neighbours of features times spherical harmonics times radial weights.

Shapes: n atoms, e padded edges, g receivers of a block, k their neighbours, c channels; m₁ and m₃
components of the degrees of a path.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from sciml.core.task import full_precision
from sciml.hip.net.base import Constant
from sciml.hip.net.coupling import clebsch_gordan, coupling_paths
from sciml.hip.net.linear import MLP, select_rows
from sciml.hip.net.settings import Radial


@dataclass(frozen=True)
class Edges:
    """Neighbours of all atoms, in blocks of receivers with about as many of them each.

    Args:
        senders: Sending atom, shape ``(e,)``.
        blocks: Number of receivers g and of neighbours k of every block; ``Σ gk = e``.
        slot: Place of every atom among the receivers of all blocks, shape ``(n,)``; None if that is
            the order of the atoms.
        harmonics: Spherical harmonics of the direction from sender to receiver, shape
            ``(e, (max_ell + 1)²)``.
        radial: Radial basis, shape ``(e, num_bessel)``, zero for padding if the cutoff is in it.
        envelope: Smooth cutoff, zero for padding, shape ``(e, 1)``.
    """

    senders: Tensor
    blocks: list[tuple[int, int]]
    slot: Tensor | None
    harmonics: Tensor
    radial: Tensor
    envelope: Tensor

    def by_block(self, values: Tensor) -> list[Tensor]:
        """Rows of all edges as one array ``(g, k, ...)`` per block.

        Args:
            values: Shape ``(e, ...)``.
        """
        if len(self.blocks) == 1:
            return [values.unflatten(0, self.blocks[0])]
        parts = values.split([receivers * width for receivers, width in self.blocks])
        return [part.unflatten(0, block) for part, block in zip(parts, self.blocks, strict=True)]


class Convolution(nn.Module):
    """Messages of all neighbours, mixed to features of degree l₃ up to max_ell.

    ``A_i,m₃ = Lin Σ_j R(r_ij) Σ_m₁m₂ C_m₁m₂m₃ x_j,m₁ Y_m₂(r_ij)`` with one radial weight for every
    path (l₁, l₂, l₃) and channel.

    Args:
        channels: Channels c.
        max_in: Largest degree of the input.
        max_ell: Largest degree of the harmonics and of the output.
        radial: How messages depend on the distance.
    """

    def __init__(self, channels: int, max_in: int, max_ell: int, radial: Radial) -> None:
        super().__init__()
        self.max_in, self.max_ell = max_in, max_ell
        self.apply_cutoff = radial.apply_cutoff
        self.paths = coupling_paths(max_in, max_ell)
        self.couplings = nn.ModuleList(Constant(_second_first(*path)) for path in self.paths)
        widths = [radial.num_bessel, *radial.mlp]
        self.radial = MLP(widths, bias=not radial.apply_cutoff)
        self.weight = nn.Parameter(torch.randn(len(self.paths), widths[-1], channels))
        counts = [sum(path[2] == ell for path in self.paths) for ell in range(max_ell + 1)]
        self.mix = nn.ParameterList(torch.randn(count * channels, channels) for count in counts)

    def forward(self, nodes: Tensor, edges: Edges) -> Tensor:
        """Sum the messages.

        Args:
            nodes: Features of the senders, shape ``(n, (max_in + 1)², c)``.
            edges: Neighbours of all atoms.

        Returns:
            Features of the receivers, shape ``(n, (max_ell + 1)², c)``.
        """
        hidden = self.radial(edges.radial)
        weights = (self.weight / sqrt(hidden.shape[1])).unbind(0)
        radial = [hidden @ weight for weight in weights]
        if not self.apply_cutoff:
            radial = [edges.envelope * weight for weight in radial]
        with full_precision(nodes.device):
            sums = self._sum_neighbors(nodes.to(edges.harmonics), radial, edges)
        mixed = [
            torch.cat(parts, dim=-1) @ (weight / sqrt(len(weight)))
            for parts, weight in zip(sums, self.mix, strict=True)
        ]
        return select_rows(torch.cat(mixed, dim=1), edges.slot)

    def _sum_neighbors(
        self, nodes: Tensor, radial: list[Tensor], edges: Edges
    ) -> list[list[Tensor]]:
        """Sums of every path by the degree of the result, each of shape ``(n, m₃, c)``."""
        sizes = [2 * ell + 1 for ell in range(self.max_ell + 1)]
        harmonics = edges.harmonics.split(sizes, dim=1)
        gathered = nodes.index_select(0, edges.senders).split(sizes[: self.max_in + 1], dim=1)
        sent = [edges.by_block(degree) for degree in gathered]
        sums: list[list[Tensor]] = [[] for _ in sizes]
        for path, coupling, weight in zip(self.paths, self.couplings, radial, strict=True):
            first, second, third = path
            matrix = (harmonics[second] @ coupling()).view(-1, sizes[first], sizes[third])
            blocks = zip(
                edges.by_block(matrix),
                edges.by_block(weight.to(matrix)),
                sent[first],
                strict=True,
            )
            parts = [
                NeighborSum.apply(matrix.flatten(1, 2), weight, x) for matrix, weight, x in blocks
            ]
            sums[third].append(torch.cat(parts))
        return sums


def _second_first(first: int, second: int, third: int) -> Tensor:
    """Coefficients as a matrix from m₂ to the pairs (m₁, m₃)."""
    return clebsch_gordan(first, second, third).transpose(0, 1).flatten(1)


class NeighborSum(Function):
    """``A_i,m₃,c = Σ_j,m₁ M_i,(j,m₁),m₃ R_ij,c x_ij,m₁,c`` as one batched matrix product.

    Products of edges and channels are large: they are made again where they are needed rather
    than kept, and the first and second derivatives share them.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor, radial: Tensor, sent: Tensor) -> Tensor:
        """Sum.

        Args:
            matrix: Coupling with the harmonics, shape ``(g, k·m₁, m₃)``.
            radial: Radial weights, shape ``(g, k, c)``.
            sent: Features of the senders, shape ``(g, k, m₁, c)``.

        Returns:
            Shape ``(g, m₃, c)``.
        """
        return matrix.mT @ (radial.unsqueeze(2) * sent).flatten(1, 2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Keep the factors."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Gradients of all factors."""
        return NeighborSumGradient.apply(*gradients, *ctx.saved_tensors)


class NeighborSumGradient(Function):
    """Gradients of `NeighborSum` with respect to matrix, radial weights and sent features."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        upper: Tensor, matrix: Tensor, radial: Tensor, sent: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients for the gradient of the sum, of shape ``(g, m₃, c)``."""
        radial = radial.unsqueeze(2)
        product = (radial * sent).flatten(1, 2)
        spread = (matrix @ upper).view_as(sent)
        return product @ upper.mT, (spread * sent).sum(2), spread * radial

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the factors."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *changes: Tensor) -> Any:
        """Gradients of the change of the sum under changes of its three factors."""
        upper, matrix, radial, sent = ctx.saved_tensors
        matrix_change, radial_change, sent_change = changes
        radial, radial_change = radial.unsqueeze(2), radial_change.unsqueeze(2)
        product = (radial * sent).flatten(1, 2)
        change = torch.addcmul(radial_change * sent, radial, sent_change).flatten(1, 2)
        spread = (matrix @ upper).view_as(sent)
        spread_change = (matrix_change @ upper).view_as(sent)
        return (
            torch.baddbmm(matrix.mT @ change, matrix_change.mT, product),
            change @ upper.mT,
            torch.addcmul(spread_change * sent, spread, sent_change).sum(2),
            torch.addcmul(spread_change * radial, spread, radial_change),
        )
