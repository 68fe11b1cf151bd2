"""ConvNeXt blocks on the hexagonal end faces (b events, n nodes, e edges, c channels)."""

import torch
from torch import Tensor, nn

from sciml.xec.net.convnext import EPS, GRN, DropPath

TYPES = 7  # of edges: to itself and to the six neighbours


class HexConvolution(nn.Module):
    """Depthwise convolution on a hexagonal grid: a weight for each channel and type of edge.

    ``out[v] = bias + Σ weight[type] x[u]`` over the edges u → v.

    Args:
        dim: Channels c.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(1, TYPES, dim))
        self.bias = nn.Parameter(torch.zeros(1, 1, dim))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Pass messages.

        Args:
            x: ``(b, n, c)``.
            edges: Source, destination and type of every edge, int64 ``(3, e)``.

        Returns:
            Same shape as x.
        """
        source, destination, kind = edges
        messages = x[:, source] * self.weight[:, kind]
        return messages.new_zeros(x.shape).index_add(1, destination, messages) + self.bias


class HexNeXtBlock(nn.Module):
    """A `ConvNeXtV2Block` whose convolution runs over the edges of a graph.

    Args:
        dim: Channels c.
        drop_path_rate: Share of events whose branch is dropped in training.
    """

    def __init__(self, dim: int, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        self.spatial_conv = HexConvolution(dim)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.grn = GRN(4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, edges: Tensor, mask: Tensor | None = None) -> Tensor:
        """Transform.

        Args:
            x: ``(b, n, c)``.
            edges: Source, destination and type of every edge, int64 ``(3, e)``.
            mask: 1 where nothing is known, ``(b, n, 1)`` in the dtype of x.

        Returns:
            Same shape as x.
        """
        branch = self.spatial_conv(x, edges)
        if mask is not None:
            branch, x = branch * (1 - mask), x * (1 - mask)
        hidden = self.act(self.pwconv1(self.norm(branch)))
        branch = self.pwconv2(self.grn(hidden[:, None])[:, 0])
        out: Tensor = x + self.drop_path(branch)
        return out
