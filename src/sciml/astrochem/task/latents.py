"""What an encoder makes of the training tracers (n rows, S species, L latents)."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciml.astrochem.net.base import AutoencoderNet, LatentStatistics
from sciml.astrochem.physics.scaling import AbundanceScaler

PIECE = 16384  # rows encoded at once


class Table(Protocol):
    """Whole tracers of the training data."""

    @property
    def physics(self) -> NDArray[np.float32]:
        """Conditions in physical units, ``(n, 4)``."""
        ...

    @property
    def abundances(self) -> NDArray[np.float32]:
        """Abundances per H nucleus, ``(n, S)``."""
        ...

    @property
    def ptr(self) -> NDArray[np.int64]:
        """Number, first row and length of every tracer, ``(tracers, 3)``."""
        ...


@torch.no_grad()
def encode_rows(
    abundance: Tensor, scaler: AbundanceScaler, autoencoder: AutoencoderNet, device: torch.device
) -> Tensor:
    """Latents of any number of rows, ``(n, S)`` to ``(n, L)`` on the CPU.

    Args:
        abundance: Per H nucleus.
        scaler: Of the autoencoder.
        autoencoder: In evaluation mode.
        device: Where it is.
    """
    parts = [
        autoencoder.encode(scaler.scale(part.to(device))).cpu() for part in abundance.split(PIECE)
    ]
    return torch.cat(parts)


class LatentSums:
    """Running sums of latents, so that the training rows need not fit in memory.

    Args:
        latent_dim: Latents L.
    """

    def __init__(self, latent_dim: int) -> None:
        self.low = torch.full((latent_dim,), torch.inf)
        self.high = torch.full((latent_dim,), -torch.inf)
        self.rows = self.steps = 0
        self.latent_dim = latent_dim
        joint = latent_dim + 4
        self.sum = torch.zeros(joint, dtype=torch.float64)
        self.square = torch.zeros(joint, joint, dtype=torch.float64)
        self.change = torch.zeros(2, latent_dim, dtype=torch.float64)  # sum, sum of squares

    def add(self, latent: Tensor, physics: Tensor, first: Tensor) -> None:
        """Add whole tracers.

        Args:
            latent: ``(n, L)``.
            physics: Conditions in physical units, ``(n, 4)``.
            first: Whether a row begins a tracer, ``(n,)``.
        """
        wide = latent.double()
        self.low = torch.minimum(self.low, latent.amin(0))
        self.high = torch.maximum(self.high, latent.amax(0))
        joint = torch.cat([wide, physics.double().log10()], 1)
        self.rows += len(joint)
        self.sum += joint.sum(0)
        self.square += joint.t() @ joint
        steps = wide.diff(dim=0)[~first[1:]]
        self.steps += len(steps)
        self.change += torch.stack([steps.sum(0), steps.square().sum(0)])

    def statistics(self) -> LatentStatistics:
        """The statistics of all that came."""
        mean = self.sum / self.rows
        covariance = self.square / self.rows - torch.outer(mean, mean)
        drift, square = self.change / max(1, self.steps)
        increment = (square - drift.square()).clamp(min=0).sqrt()
        own = slice(self.latent_dim)
        return LatentStatistics(
            self.low,
            self.high,
            mean[own],
            covariance[own, own],
            mean,
            covariance,
            increment.float(),
        )


def survey(
    tables: Iterable[Table],
    scaler: AbundanceScaler,
    autoencoder: AutoencoderNet,
    device: torch.device,
    keep: bool,
) -> tuple[LatentStatistics, Tensor | None]:
    """Statistics of the latents of the training tracers, and the latents themselves.

    Args:
        tables: Training tracers in the order of their rows.
        scaler: Of the autoencoder.
        autoencoder: In evaluation mode.
        device: Where it is.
        keep: Keep all latents, float32 ``(n, L)``.
    """
    sums = LatentSums(autoencoder.latent_dim)
    kept = []
    for table in tables:
        latent = encode_rows(torch.as_tensor(table.abundances), scaler, autoencoder, device)
        first = torch.zeros(len(latent), dtype=torch.bool)
        first[torch.as_tensor(table.ptr[:, 1])] = True
        sums.add(latent, torch.as_tensor(table.physics), first)
        kept += [latent] if keep else []
    return sums.statistics(), torch.cat(kept) if keep else None


def precision(covariance: Tensor) -> Tensor:
    """Inverse of a covariance, made stable where there are fewer rows than directions.

    Args:
        covariance: float64 ``(d, d)``.

    Returns:
        Same shape.
    """
    ridge = 1e-6 * covariance.diagonal().mean().clamp(min=1e-12)
    unit = torch.eye(len(covariance), dtype=torch.float64)
    precision: Tensor = torch.linalg.inv(covariance + ridge * unit)
    return precision
