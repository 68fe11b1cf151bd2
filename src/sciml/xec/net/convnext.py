"""Blocks of ConvNeXt V2 (b images, c channels, h rows, w columns, n nodes).

Source: Woo et al., arXiv:2301.00808.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

EPS = 1e-6
TINY = 1e-30  # keeps the derivative of a root finite


class GRN(nn.Module):
    """Global response normalisation of images or graphs with the channels last.

    ``G`` is the L2 norm of a channel over all positions of an event, ``N = G / (mean of G over
    the channels + 1e-6)``, and the output ``γ x N + β + x``; γ and β start at 0.

    Args:
        dim: Channels c.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, dim))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            x: ``(b, h, w, c)``.

        Returns:
            Same shape.
        """
        squares = x.flatten(1, 2).square()
        # a product with ones is ten times as fast as a norm over the middle axes
        total = squares.new_ones(x.shape[0], 1, squares.shape[1]) @ squares
        strength = total.clamp(min=TINY).sqrt()[:, None]
        relative = strength / (strength.mean(-1, keepdim=True) + EPS)
        return torch.addcmul(self.beta, x, 1 + self.gamma * relative)  # in one pass over x


class ChannelLayerNorm(nn.Module):
    """Layer norm over the channels of images, with the biased variance and 1e-6 added to it.

    Args:
        dim: Channels c.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            x: ``(b, c, h, w)``.

        Returns:
            Same shape.
        """
        last = layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, EPS)
        return last.permute(0, 3, 1, 2)


class DropPath(nn.Module):
    """In training, zero the branch of a random share of events and scale up the others.

    Args:
        rate: The share, in ``[0, 1)``.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"drop_path_rate is {rate}; it has to be at least 0 and below 1")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Drop.

        Args:
            x: Output of a branch, ``(b, ...)``.

        Returns:
            Same shape.
        """
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        return x * (x.new_empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(keep) / keep)

    def extra_repr(self) -> str:
        """The share."""
        return f"rate={self.rate}"


class ConvNeXtV2Block(nn.Module):
    """Depthwise 7×7 convolution, layer norm, and a hidden layer of four times the width with GRN.

    Args:
        dim: Channels c.
        drop_path_rate: Share of events whose branch is dropped in training.
    """

    def __init__(self, dim: int, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.grn = GRN(4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Transform.

        Args:
            x: ``(b, c, h, w)``.
            mask: 1 where nothing is known, ``(b, 1, h, w)`` in the dtype of x.

        Returns:
            Same shape as x.
        """
        branch = self.dwconv(x)
        if mask is not None:
            branch, x = branch * (1 - mask), x * (1 - mask)
        branch = self.norm(branch.permute(0, 2, 3, 1))
        branch = self.pwconv2(self.grn(self.act(self.pwconv1(branch))))
        out: Tensor = x + self.drop_path(branch.permute(0, 3, 1, 2))
        return out
