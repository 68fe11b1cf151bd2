"""The tied-weight autoencoder of the original emulator (b rows, S species, L latents)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from sciml.astrochem.net.base import AutoencoderNet

Norm = Literal["batch", "layer", "none"]


class TiedAutoencoder(AutoencoderNet):
    """Three layers down, and the same matrices transposed up again.

    Encoder: ``h1 = act(norm(W1 s))``, ``h2 = act(norm(W2 h1))``, dropout,
    ``z = act(norm(W3 h2 + b3))``. Decoder: ``g2 = act(norm(W3ᵀ z + c1))``,
    ``g1 = dropout(act(norm(W2ᵀ g2 + c2)))``, ``s = sigmoid(W1ᵀ g1 + c3)``. The decoder has
    biases and norms of its own. Gaussian noise is added to the latents in training.

    Args:
        input_dim: Species S.
        hidden_dims: Widths of the two hidden layers.
        latent_dim: Latents L.
        noise: Standard deviation of the noise on the latents.
        dropout: Share of hidden units dropped, before the latents and before the output.
        output: ``sigmoid``, or ``clamp`` to [0, 1] of the plain sum.
        activation: Nonlinearity of the hidden layers; gelu is the exact one.
        norm: Normalisation of the layers; ``batch`` is PyTorch's batch norm.
        latent_act: Nonlinearity of the latents; gelu keeps them above -0.17.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dims: tuple[int, int] = (320, 160),
        latent_dim: int = 12,
        *,
        noise: float = 0.1,
        dropout: float = 0.3,
        output: Literal["sigmoid", "clamp"] = "sigmoid",
        activation: Literal["gelu", "relu", "silu"] = "gelu",
        norm: Norm = "batch",
        latent_act: Literal["gelu", "none"] = "gelu",
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        first, second = hidden_dims
        self.input_dim, self.latent_dim = input_dim, latent_dim
        self.noise = noise
        self.down1 = nn.Linear(input_dim, first, bias=False)
        self.down2 = nn.Linear(first, second, bias=False)
        self.down3 = nn.Linear(second, latent_dim)
        self.norms = nn.ModuleList(_norm(norm, width) for width in (first, second, latent_dim))
        self.up_norms = nn.ModuleList(_norm(norm, width) for width in (second, first))
        self.up_bias = nn.ParameterList(torch.zeros(width) for width in (second, first, input_dim))
        self.activation = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}[activation]()
        self.latent_activation = nn.GELU() if latent_act == "gelu" else nn.Identity()
        self.output = nn.Sigmoid() if output == "sigmoid" else nn.Hardtanh(0.0, 1.0)
        self.drop_down = nn.Dropout(dropout)
        self.drop_up = nn.Dropout(dropout)

    def to_latent(self, scaled: Tensor) -> Tensor:
        hidden = self.activation(self.norms[0](self.down1(scaled)))
        hidden = self.activation(self.norms[1](self.down2(hidden)))
        latent: Tensor = self.norms[2](self.down3(self.drop_down(hidden)))
        latent = self.latent_activation(latent)
        return latent

    def perturb(self, latent: Tensor) -> Tensor:
        return latent + self.noise * torch.randn_like(latent) if self.training else latent

    def to_scaled(self, latent: Tensor) -> Tensor:
        hidden = self._climb(latent)
        scaled: Tensor = self.output(linear(hidden, self.down1.weight.t(), self.up_bias[2]))
        return scaled

    def decode_species(self, latent: Tensor, columns: Tensor) -> Tensor:
        hidden = self._climb(latent)
        weight = self.down1.weight.t()[columns]
        scaled: Tensor = self.output(linear(hidden, weight, self.up_bias[2][columns]))
        return scaled

    def _climb(self, latent: Tensor) -> Tensor:
        hidden = linear(latent, self.down3.weight.t(), self.up_bias[0])
        hidden = self.activation(self.up_norms[0](hidden))
        hidden = linear(hidden, self.down2.weight.t(), self.up_bias[1])
        climbed: Tensor = self.drop_up(self.activation(self.up_norms[1](hidden)))
        return climbed


def _norm(kind: Norm, width: int) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    return nn.BatchNorm1d(width) if kind == "batch" else nn.LayerNorm(width)
