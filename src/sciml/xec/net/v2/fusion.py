"""Transformer over the tokens of an event (b events, t tokens, d numbers a token).

Source: Vaswani et al., arXiv:1706.03762; layer norms before the branches, Xiong et al.,
arXiv:2002.04745.
"""

from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from sciml.xec.net.convnext import DropPath


class FusionLayer(nn.Module):
    """Self-attention, then a hidden layer.

    Args:
        width: Numbers a token d.
        heads: Attention heads.
        expansion: Width of the hidden layer in units of d.
        drop_path_rate: Share of events a branch is skipped for in training.
    """

    def __init__(self, width: int, heads: int, expansion: int, drop_path_rate: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.rise = nn.Linear(width, expansion * width)
        self.fall = nn.Linear(expansion * width, width)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, first: int | None = None) -> Tensor:
        """Next tokens.

        Args:
            x: ``(b, t, d)``.
            first: Give only so many tokens, which still look at all of them; saves most of the
                work of a last layer.

        Returns:
            Same shape, or ``(b, first, d)``.
        """
        seen, x = self.norm1(x), x[:, :first]
        query = self._split(self.query(seen[:, :first]))
        key, value = (self._split(part) for part in self.key_value(seen).chunk(2, dim=-1))
        mixed = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + self.drop_path(self.out(mixed))
        out: Tensor = x + self.drop_path(self.fall(gelu(self.rise(self.norm2(x)))))
        return out

    def _split(self, x: Tensor) -> Tensor:
        """Numbers of the heads apart, ``(b, heads, t, d / heads)``."""
        parts: Tensor = x.unflatten(-1, (self.heads, -1))
        return parts.transpose(1, 2)
