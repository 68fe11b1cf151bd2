"""Encoders of a face of the calorimeter (b events, c channels, h rows, w columns, n nodes)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sciml.xec.net.convnext import ChannelLayerNorm, ConvNeXtV2Block
from sciml.xec.net.hexnext import HexNeXtBlock

GRID = 4  # side of the grid every rectangular face is resized to
HEX_WIDTH = 96
HEX_LAYERS = 4


class FaceBackbone(nn.Module):
    """Convolutions shared by all rectangular faces; the last feature map is sampled at 4×4 points.

    Args:
        dim: Length of a token, 32 times the channels of the first stage.
        drop_path_rate: Share of events a block is skipped for in training.
    """

    def __init__(self, dim: int, drop_path_rate: float) -> None:
        super().__init__()
        narrow, wide = dim // 32, dim // 16
        stem = nn.Conv2d(2, narrow, 4, padding=1)
        self.stem = nn.Sequential(stem, ChannelLayerNorm(narrow))
        self.stage1 = nn.ModuleList(ConvNeXtV2Block(narrow, drop_path_rate) for _ in range(2))
        down = nn.Conv2d(narrow, wide, 2, stride=2)
        self.downsample = nn.Sequential(ChannelLayerNorm(narrow), down)
        self.stage2 = nn.ModuleList(ConvNeXtV2Block(wide, drop_path_rate) for _ in range(3))

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """The token of a face.

        Args:
            image: Normalised counts and times, ``(b, 2, h, w)``.
            mask: 1 where a sensor is hidden, ``(b, 1, h, w)``.

        Returns:
            ``(b, dim)``, channel by channel the 16 points of its map.
        """
        if mask is not None:
            image = image * (1 - mask)
        x = _run(self.stage1, self.stem(image), mask)
        x = _run(self.stage2, self.downsample(x), mask)
        x = interpolate(x, size=(GRID, GRID), mode="bilinear", align_corners=False)
        return x.flatten(1)


def _run(blocks: Iterable[nn.Module], x: Tensor, mask: Tensor | None) -> Tensor:
    if mask is not None:
        mask = interpolate(mask, size=x.shape[-2:], mode="nearest")
    for block in blocks:
        x = block(x, mask)
    return x


class DeepHexEncoder(nn.Module):
    """Graph convolutions shared by the top and bottom faces; the mean over the nodes is the token.

    Args:
        dim: Length of a token.
        drop_path_rate: Share of events a block is skipped for in training.
    """

    def __init__(self, dim: int, drop_path_rate: float) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(2, HEX_WIDTH), nn.LayerNorm(HEX_WIDTH), nn.GELU())
        layers = (HexNeXtBlock(HEX_WIDTH, drop_path_rate) for _ in range(HEX_LAYERS))
        self.layers = nn.ModuleList(layers)
        self.proj = nn.Sequential(nn.LayerNorm(HEX_WIDTH), nn.Linear(HEX_WIDTH, dim))

    def forward(self, nodes: Tensor, edges: Tensor, mask: Tensor | None = None) -> Tensor:
        """The token of a face.

        Args:
            nodes: Normalised counts and times, ``(b, n, 2)``.
            edges: Source, destination and type of every edge, int64 ``(3, e)``.
            mask: 1 where a sensor is hidden, ``(b, n, 1)``.

        Returns:
            ``(b, dim)``.
        """
        if mask is not None:
            nodes = nodes * (1 - mask)
        x = self.stem(nodes)
        for layer in self.layers:
            x = layer(x, edges, mask)
        token: Tensor = self.proj(torch.mean(x, 1))
        return token
