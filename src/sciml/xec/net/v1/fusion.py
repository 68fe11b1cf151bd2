"""The transformer that mixes the tokens of the faces (b events, t tokens, d numbers a token).

Its parts are named as those of ``nn.TransformerEncoder``, whose fused inference path cannot be
exported and rounds differently from training; here one formula serves all three.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, scaled_dot_product_attention

HEADS = 8
DROPOUT = 0.1


class SelfAttention(nn.Module):
    """Attention of tokens to each other with 8 heads.

    Args:
        dim: Numbers a token d, a multiple of 8.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * dim, dim)))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Attend.

        Args:
            x: ``(b, t, d)``.

        Returns:
            Same shape.
        """
        projected = linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in projected.chunk(3, -1)
        )
        dropout = DROPOUT if self.training else 0.0
        mixed = scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


class FusionLayer(nn.Module):
    """Post-norm layer: attention, then two linear layers with GELU, each added and normalised.

    Args:
        dim: Numbers a token d.
        hidden: Width between the two linear layers.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(dim)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """Transform.

        Args:
            x: ``(b, t, d)``.

        Returns:
            Same shape.
        """
        x = self.norm1(x + self.dropout(self.self_attn(x)))
        hidden = self.linear2(self.dropout(gelu(self.linear1(x))))
        out: Tensor = self.norm2(x + self.dropout(hidden))
        return out


class Fusion(nn.Module):
    """Layers one after the other, without a norm at the end.

    Args:
        dim: Numbers a token d.
        hidden: Width of the linear layers.
        layers: Number of layers.
    """

    def __init__(self, dim: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FusionLayer(dim, hidden) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Transform.

        Args:
            x: ``(b, t, d)``.

        Returns:
            Same shape.
        """
        for layer in self.layers:
            x = layer(x)
        return x
