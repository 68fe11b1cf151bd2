"""Contracts of autoencoders and emulators (b rows, t steps, S species, L latents)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from lightning.pytorch.core.mixins.hparams_mixin import HyperparametersMixin
from torch import Tensor, nn

from sciml.astrochem.physics.statistics import ChemistryStatistics


@dataclass(frozen=True)
class LatentStatistics:
    """What the latents of the training rows look like, computed with the encoder in use.

    Args:
        low: Smallest value of every latent, ``(L,)``.
        high: Largest, ``(L,)``.
        mean: Mean, float64 ``(L,)``.
        covariance: Covariance, float64 ``(L, L)``.
        joint_mean: Mean of the latents and the four log10 conditions, float64 ``(L + 4,)``.
        joint_covariance: Covariance of these, float64 ``(L + 4, L + 4)``.
        increment: Standard deviation of the change over one step, ``(L,)``.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    covariance: Tensor
    joint_mean: Tensor
    joint_covariance: Tensor
    increment: Tensor


class AutoencoderNet(nn.Module, HyperparametersMixin, ABC):
    """Map scaled abundances ``(b, S)`` to latents ``(b, L)`` and back.

    `encode` and `decode` are the network as it is used; `forward` is the network as it is trained,
    with the noise on its latents in training mode.
    """

    input_dim: int
    latent_dim: int

    @abstractmethod
    def encode(self, scaled: Tensor) -> Tensor:
        """Latents of scaled abundances, ``(b, S)`` to ``(b, L)``."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """Scaled abundances of latents, ``(b, L)`` to ``(b, S)``; not clipped to [0, 1]."""

    @abstractmethod
    def decode_species(self, latent: Tensor, columns: Tensor) -> Tensor:
        """Like `decode`, for some species only.

        Args:
            latent: ``(b, L)``.
            columns: Which species, int64 ``(c,)``.

        Returns:
            Scaled abundances, ``(b, c)``.
        """

    @abstractmethod
    def perturb(self, latent: Tensor) -> Tensor:
        """Latents with the noise of training; the same latents in evaluation mode."""

    def forward(self, scaled: Tensor) -> Tensor:
        """Reconstruction as it is trained.

        Args:
            scaled: Scaled abundances, ``(b, S)``.

        Returns:
            Same shape.
        """
        return self.decode(self.perturb(self.encode(scaled)))

    def set_statistics(self, statistics: ChemistryStatistics) -> None:
        """Start from the statistics of the training rows; by default there is nothing to set.

        Args:
            statistics: Of the training tracers.
        """


class EmulatorNet(nn.Module, HyperparametersMixin, ABC):
    """Advance latents ``(b, L)`` over one step of time under given conditions.

    Latents are those of the autoencoder, conditions are density, field, Av and temperature in
    physical units, ``(b, 4)``; networks scale both inside.
    """

    state_dim: int

    @abstractmethod
    def step(
        self,
        latent: Tensor,
        physics: Tensor,
        dt: Tensor | None = None,
        physics_before: Tensor | None = None,
    ) -> Tensor:
        """Latents one step later.

        Args:
            latent: ``(b, L)``.
            physics: Conditions that act during the step, ``(b, 4)``.
            dt: Length of the step in years, ``(b,)``; by default that of the training data.
            physics_before: Conditions of the step before, ``(b, 4)``; by default the same.

        Returns:
            ``(b, L)``.
        """

    @abstractmethod
    def rollout(self, latent: Tensor, physics: Tensor, dt: Tensor | None = None) -> Tensor:
        """Latents after every step of a history; equal to repeated `step`.

        Args:
            latent: At the start, ``(b, L)``.
            physics: Conditions of every step, ``(b, t, 4)``.
            dt: Lengths of the steps in years, ``(b, t)``.

        Returns:
            ``(b, t, L)``.
        """

    def rollout_each(self, latent: Tensor, physics: Tensor, dt: Tensor | None = None) -> Tensor:
        """Latents of every member of the network by itself, as they are trained.

        Args:
            latent: At the start, ``(b, L)``.
            physics: Conditions of every step, ``(b, t, 4)``.
            dt: Lengths of the steps in years, ``(b, t)``.

        Returns:
            ``(k, b, t, L)``, for one member that of `rollout`.
        """
        return self.rollout(latent, physics, dt)[None]

    @abstractmethod
    def set_statistics(self, statistics: ChemistryStatistics, latents: LatentStatistics) -> None:
        """Fill the scalers.

        Args:
            statistics: Of the training tracers.
            latents: Of their latents.
        """
