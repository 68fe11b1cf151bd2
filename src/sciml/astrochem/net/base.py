"""Contracts of autoencoders and emulators (b rows, t steps, S species, L latents)."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from lightning.pytorch.core.mixins.hparams_mixin import HyperparametersMixin
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from sciml.astrochem.physics.statistics import ChemistryStatistics
from sciml.core.task import full_precision


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
    with the noise on its latents in training mode. All three keep the precision of their inputs
    under mixed precision: a scaled abundance rounded to bfloat16 is off by up to 0.1 dex. A network
    gives `to_latent` and `to_scaled`, which they call.
    """

    input_dim: int
    latent_dim: int

    @abstractmethod
    def to_latent(self, scaled: Tensor) -> Tensor:
        """What `encode` gives, in the precision that is set."""

    @abstractmethod
    def to_scaled(self, latent: Tensor) -> Tensor:
        """What `decode` gives, in the precision that is set."""

    def encode(self, scaled: Tensor) -> Tensor:
        """Latents of scaled abundances, ``(b, S)`` to ``(b, L)``."""
        if is_scripting():  # scripts know no contexts
            latent = self.to_latent(scaled)
        else:
            with _own_precision(scaled):
                latent = self.to_latent(scaled)
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """Scaled abundances of latents, ``(b, L)`` to ``(b, S)``; not clipped to [0, 1]."""
        if is_scripting():
            scaled = self.to_scaled(latent)
        else:
            with _own_precision(latent):
                scaled = self.to_scaled(latent)
        return scaled

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


def _own_precision(values: Tensor) -> AbstractContextManager[None]:
    """`full_precision` where another one is set; nothing that an export would record elsewhere."""
    mixed = torch.is_autocast_enabled(values.device.type)
    return full_precision(values.device) if mixed else nullcontext()


class EmulatorNet(nn.Module, HyperparametersMixin, ABC):
    """Advance latents ``(b, L)`` over one step of time under given conditions.

    Latents are those of the autoencoder, conditions are density, field, Av and temperature in
    physical units, ``(b, 4)``; networks scale both inside. Buffers hold statistics of the training
    tracers and nothing else. ``dt_input`` says whether a network tells steps of different lengths,
    ``phys_delta`` whether it takes the conditions of the step before.
    """

    state_dim: int
    dt_input: bool = False
    phys_delta: bool = False

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

    @torch.jit.unused
    def forward(self, latent: Tensor, physics: Tensor, dt: Tensor | None = None) -> Tensor:
        """The network as it is trained: `rollout_each`."""
        return self.rollout_each(latent, physics, dt)

    @abstractmethod
    def set_statistics(self, statistics: ChemistryStatistics, latents: LatentStatistics) -> None:
        """Fill the scalers.

        Args:
            statistics: Of the training tracers.
            latents: Of their latents.
        """
