"""Tokens of the six faces (b events, c channels, d numbers a token)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad

from sciml.xec.net.convnext import ChannelLayerNorm, ConvNeXtV2Block
from sciml.xec.net.hexnext import HexNeXtBlock
from sciml.xec.net.v2.channels import CHANNELS
from sciml.xec.physics.constants import FACES
from sciml.xec.physics.hexagon import hex_graph
from sciml.xec.physics.images import hex_ids, inner_image, outer_fine, plane_image
from sciml.xec.physics.sensors import sensors

INNER_PADDING = (2, 2, 1, 2)  # left, right, above, below: to 96 x 48
SIDE_PATCH = (12, 3)
OUTER_PATCH = (15, 24)
HEX_TOKENS = 2


class FaceTokens(nn.Module):
    """Tokens of all faces; each carries where it is and on which face.

    Args:
        width: Numbers a token d.
        channels: Channels of the inner face before it is reduced.
        blocks: ConvNeXt blocks of the inner face.
        hex_channels: Channels on the hexagonal faces.
        drop_path_rate: Share of events a block is skipped for in training.
    """

    inner_ids: Tensor
    side_ids: Tensor
    outer_ids: Tensor
    share: Tensor
    hex_ids: Tensor
    edges: Tensor
    place: Tensor
    face: Tensor

    def __init__(
        self, width: int, channels: int, blocks: int, hex_channels: int, drop_path_rate: float
    ) -> None:
        super().__init__()
        self.inner_stem = nn.Conv2d(CHANNELS, channels, 4, 4)
        self.inner_norm = ChannelLayerNorm(channels)
        self.inner_blocks = nn.ModuleList(
            ConvNeXtV2Block(channels, drop_path_rate) for _ in range(blocks)
        )
        self.inner_end = nn.Sequential(ChannelLayerNorm(channels), nn.Conv2d(channels, width, 2, 2))
        self.side_stem = nn.Conv2d(CHANNELS, width, SIDE_PATCH, SIDE_PATCH)
        self.outer_stem = nn.Conv2d(CHANNELS, width, OUTER_PATCH, OUTER_PATCH)
        self.hex_stem = nn.Linear(CHANNELS, hex_channels)
        self.hex_node = nn.Parameter(0.02 * torch.randn(len(hex_ids("top")), hex_channels))
        self.hex_block = HexNeXtBlock(hex_channels, drop_path_rate)
        self.hex_query = nn.Linear(hex_channels, HEX_TOKENS)
        self.hex_end = nn.Linear(hex_channels, width)
        self._register(*_tables())
        self.where = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width))
        self.kind = nn.Embedding(len(FACES), width)

    def _register(self, tables: dict[str, NDArray[np.generic]], order: list[str]) -> None:
        for name in order:
            self.register_buffer(name, torch.from_numpy(tables[name].copy()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of the inner, upstream, downstream, outer, top and bottom face.

        Args:
            x: Channels of all sensors, ``(b, c, 4760)``.

        Returns:
            ``(b, t, d)``.
        """
        tokens = [self._inner(x), *self._sides(x), self._outer(x), *self._ends(x)]
        place: Tensor = self.where(self.place.to(x.dtype)) + self.kind(self.face)
        return torch.cat(tokens, 1) + place

    def _inner(self, x: Tensor) -> Tensor:
        image = pad(x[:, :, self.inner_ids], INNER_PADDING)
        y = self.inner_norm(self.inner_stem(image))
        for block in self.inner_blocks:
            y = block(y)
        return _flat(self.inner_end(y))

    def _sides(self, x: Tensor) -> list[Tensor]:
        return [_flat(self.side_stem(x[:, :, ids])) for ids in self.side_ids]

    def _outer(self, x: Tensor) -> Tensor:
        image = x[:, :, self.outer_ids]
        # the root of a count that is spread over cells
        light = image[:, :1] * self.share.to(x.dtype)
        return _flat(self.outer_stem(torch.cat([light, image[:, 1:]], 1)))

    def _ends(self, x: Tensor) -> list[Tensor]:
        nodes = torch.cat([x[:, :, ids] for ids in self.hex_ids]).transpose(1, 2)
        y = self.hex_block(self.hex_stem(nodes) + self.hex_node, self.edges)
        weight = self.hex_query(y).softmax(1).transpose(1, 2)
        tokens = self.hex_end(weight @ y)
        return list(tokens.chunk(len(self.hex_ids)))


def _tables() -> tuple[dict[str, NDArray[np.generic]], list[str]]:
    """Index tables, and centres in m and faces of all tokens in their order."""
    fine, cells = outer_fine()
    inner = np.pad(inner_image(), ((1, 2), (2, 2)), mode="edge")
    sides = np.stack([plane_image("us"), plane_image("ds")])
    ends = np.stack([hex_ids("top"), hex_ids("bot")])
    groups = [
        (0, _patches(inner, (8, 8))),
        (1, _patches(sides[0], SIDE_PATCH)),
        (2, _patches(sides[1], SIDE_PATCH)),
        (3, _patches(fine, OUTER_PATCH)),
        (4, np.tile(ends[0], (HEX_TOKENS, 1))),
        (5, np.tile(ends[1], (HEX_TOKENS, 1))),
    ]
    position = sensors().position
    place = np.concatenate([position[ids].mean(1) for _, ids in groups]) / 100
    face = np.concatenate([np.full(len(ids), code) for code, ids in groups])
    tables: dict[str, NDArray[np.generic]] = {
        "inner_ids": inner_image(),
        "side_ids": sides,
        "outer_ids": fine,
        "share": 2 / np.sqrt(cells),
        "hex_ids": ends,
        "edges": hex_graph(),
        "place": place,
        "face": face,
    }
    return tables, list(tables)


def _patches(ids: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
    """Ids in every patch of an image, row by row, ``(patches, ids)``."""
    rows, columns = ids.shape[0] // size[0], ids.shape[1] // size[1]
    cut = ids.reshape(rows, size[0], columns, size[1]).swapaxes(1, 2)
    return cut.reshape(rows * columns, -1)


def _flat(image: Tensor) -> Tensor:
    return image.flatten(2).transpose(1, 2)
