"""The emulator of the original project (b rows, t steps, L latents)."""

import torch
from torch import Tensor, nn

from sciml.astrochem.net.base import EmulatorNet, LatentStatistics
from sciml.astrochem.physics.scaling import LatentScaler, PhysicsScaler
from sciml.astrochem.physics.statistics import ChemistryStatistics


class LatentAutoregressive(EmulatorNet):
    """``z' = clamp(z + MLP([p, z]), 0, 1)`` in min-max scaled latents and conditions.

    Args:
        latent_dim: Latents L of the autoencoder.
        hidden: Width of the two hidden layers.
        dropout: Share of hidden units dropped in training.
        clamp: Keep scaled latents between 0 and 1.
        small_start: Multiply the first weights of the last layer by 0.01 and zero its bias, so
            that an untrained map nearly holds the state.
        per_dimension: One pair of extremes for every latent, not one for all.
    """

    def __init__(
        self,
        latent_dim: int = 14,
        hidden: int = 32,
        dropout: float = 0.2,
        *,
        clamp: bool = True,
        small_start: bool = True,
        per_dimension: bool = True,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.state_dim = latent_dim
        self.clamp = clamp
        self.physics_scaler = PhysicsScaler()
        self.latent_scaler = LatentScaler(latent_dim, per_dimension)
        self.body = nn.Sequential(
            nn.Linear(4 + latent_dim, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
        )  # fmt: skip
        self.change = nn.Linear(hidden, latent_dim)
        if small_start:
            with torch.no_grad():
                self.change.weight.mul_(0.01)
                self.change.bias.zero_()

    def set_statistics(self, statistics: ChemistryStatistics, latents: LatentStatistics) -> None:
        self.physics_scaler.set_range(statistics.physics_range)
        self.latent_scaler.set_range(latents.low, latents.high)

    def step(
        self,
        latent: Tensor,
        physics: Tensor,
        dt: Tensor | None = None,
        physics_before: Tensor | None = None,
    ) -> Tensor:
        scaled = self.latent_scaler.scale(latent)
        drive = self.physics_scaler.scale(physics).to(scaled.dtype)
        return self.latent_scaler.unscale(self._advance(scaled, drive))

    def rollout(self, latent: Tensor, physics: Tensor, dt: Tensor | None = None) -> Tensor:
        scaled = self.latent_scaler.scale(latent)
        drive = self.physics_scaler.scale(physics).to(scaled.dtype)
        states: list[Tensor] = []
        for step in range(physics.shape[1]):  # each state needs the one before
            scaled = self._advance(scaled, drive[:, step])
            states.append(scaled)
        return self.latent_scaler.unscale(torch.stack(states, 1))

    def _advance(self, scaled: Tensor, drive: Tensor) -> Tensor:
        change: Tensor = self.change(self.body(torch.cat([drive, scaled], -1)))
        moved = scaled + change
        return torch.clamp(moved, 0.0, 1.0) if self.clamp else moved
