"""Principal components with a learned correction both ways (b rows, S species, L latents)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from sciml.astrochem.net.base import AutoencoderNet
from sciml.astrochem.physics.statistics import ChemistryStatistics

ENCODER_GAIN = 10.0  # brings the deviations of scaled abundances to order one
DECODER_GAIN = 0.05  # a correction of order one is one decade of twenty


class PcaResidualAutoencoder(AutoencoderNet):
    """Linear autoencoder that starts as the principal components, plus small networks.

    ``z = W (s - μ) / σ + E(10 (s - μ))`` and ``s = μ + Wᵀ (σ z) + 0.05 D(z)``: W is trained, used
    in both directions, and starts as the first L principal axes of the scaled training rows; μ are
    their means and σ the standard deviations of the scores. The last layers of E and D start at
    zero, so that training begins at the principal components and can only improve on them.

    Args:
        input_dim: Species S.
        latent_dim: Latents L.
        noise: Standard deviation of the noise on the latents in training, in units of σ.
        encoder_dim: Hidden width of E.
        decoder_dims: Hidden widths of D.

    Raises:
        ValueError: If there are more latents than species.
    """

    center: Tensor
    spread: Tensor

    def __init__(
        self,
        input_dim: int,
        latent_dim: int = 24,
        noise: float = 0.02,
        *,
        encoder_dim: int = 256,
        decoder_dims: tuple[int, int] = (160, 320),
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if latent_dim > input_dim:
            raise ValueError(
                f"{latent_dim} latents do not fit into {input_dim} species; "
                "set --model.net.latent_dim lower"
            )
        self.input_dim, self.latent_dim = input_dim, latent_dim
        self.noise = noise
        self.encoder_gain, self.decoder_gain = ENCODER_GAIN, DECODER_GAIN
        self.axes = nn.Parameter(torch.empty(latent_dim, input_dim))
        nn.init.orthogonal_(self.axes)
        self.register_buffer("center", torch.zeros(input_dim))
        self.register_buffer("spread", torch.ones(latent_dim))
        self.encoder = nn.Sequential(nn.Linear(input_dim, encoder_dim), nn.GELU())
        self.input = nn.Linear(encoder_dim, latent_dim)
        first, second = decoder_dims
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, first), nn.GELU(), nn.Linear(first, second), nn.GELU()
        )
        self.output = nn.Linear(second, input_dim)
        for last in (self.input, self.output):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def set_statistics(self, statistics: ChemistryStatistics) -> None:
        """Start at the principal components of the training rows.

        Args:
            statistics: Of the training tracers.
        """
        variances, vectors = torch.linalg.eigh(statistics.covariance)
        kept = torch.arange(len(variances) - 1, len(variances) - 1 - self.latent_dim, -1)
        axes = vectors[:, kept].t()
        signs = torch.sign(axes.gather(1, axes.abs().argmax(1, keepdim=True)))
        with torch.no_grad():
            self.axes.copy_(axes * signs)  # an eigenvector's sign depends on the library
            self.center.copy_(statistics.mean)
            self.spread.copy_(variances[kept].clamp(min=1e-12).sqrt())

    def to_latent(self, scaled: Tensor) -> Tensor:
        deviation = scaled - self.center
        correction: Tensor = self.input(self.encoder(self.encoder_gain * deviation))
        return linear(deviation, self.axes) / self.spread + correction

    def perturb(self, latent: Tensor) -> Tensor:
        return latent + self.noise * torch.randn_like(latent) if self.training else latent

    def to_scaled(self, latent: Tensor) -> Tensor:
        correction: Tensor = self.output(self.decoder(latent))
        principal = linear(latent * self.spread, self.axes.t(), self.center)
        return principal.add_(correction, alpha=self.decoder_gain)

    def decode_species(self, latent: Tensor, columns: Tensor) -> Tensor:
        hidden: Tensor = self.decoder(latent)
        correction = linear(hidden, self.output.weight[columns], self.output.bias[columns])
        axes = self.axes[:, columns].t()
        principal = linear(latent * self.spread, axes, self.center[columns])
        return principal.add_(correction, alpha=self.decoder_gain)
