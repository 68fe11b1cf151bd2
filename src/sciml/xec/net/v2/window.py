"""The inner face at full resolution around the brightest spot (b events, c channels)."""

from torch import Tensor, nn
from torch.nn.functional import gelu

from sciml.xec.net.convnext import ChannelLayerNorm, ConvNeXtV2Block
from sciml.xec.net.v2.channels import CHANNELS
from sciml.xec.physics.constants import INNER, INNER_SHAPE
from sciml.xec.physics.windows import SIZE, cut


class Window(nn.Module):
    """Convolutions over 20 x 20 sensors, of which 5 x 5 places remain.

    Args:
        channels: Channels of the convolutions.
        blocks: ConvNeXt blocks.
        width: Numbers a token d.
        tokens: Tokens made of the window.
        drop_path_rate: Share of events a block is skipped for in training.
    """

    def __init__(
        self, channels: int, blocks: int, width: int, tokens: int, drop_path_rate: float
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(CHANNELS, channels // 2, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(channels // 2, channels, 2, 2),
        )
        self.blocks = nn.ModuleList(
            ConvNeXtV2Block(channels, drop_path_rate) for _ in range(blocks)
        )
        self.end = nn.Sequential(ChannelLayerNorm(channels), nn.Conv2d(channels, channels, 2, 2))
        self.tokens = nn.Linear((SIZE // 4) ** 2 * channels, tokens * width)
        self.place = nn.Linear(2, tokens * width)
        self.count = tokens

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        """Tokens made of the window.

        Args:
            x: Channels of all sensors, ``(b, c, 4760)``.
            place: Row and column of the middle, int64 ``(b, 2)``.

        Returns:
            ``(b, tokens, d)``.
        """
        y = self.stem(cut(x[:, :, :INNER], place))
        for block in self.blocks:
            y = block(y)
        features = gelu(self.end(y).flatten(1))
        shape = place.new_tensor(INNER_SHAPE).to(x.dtype)
        tokens = self.tokens(features) + self.place(place.to(x.dtype) / shape - 0.5)
        found: Tensor = tokens.unflatten(1, (self.count, -1))
        return found
