"""What an emulator was trained on, and how far histories lead away from it."""

import torch
from torch import Tensor, nn

from sciml.astrochem.net.base import LatentStatistics
from sciml.astrochem.physics.statistics import ChemistryStatistics, motion
from sciml.astrochem.task.latents import precision

EXCESS = 10.0  # of the score for conditions a whole training range outside
USUAL = 3.0  # standard deviations of the motion that are not counted
MOTION = 0.1  # of the score for every further one
ROUNDING = 1e-6  # decades; a number in float32 is that much beside its value in float64


class TrainingDomain(nn.Module):
    """Ranges and distributions of the training tracers (b tracers, t steps, L latents).

    Args:
        latents: Latents L.
    """

    physics_range: Tensor
    usual_motion: Tensor
    dt: Tensor
    latent_mean: Tensor
    latent_precision: Tensor
    joint_mean: Tensor
    joint_precision: Tensor

    def __init__(self, latents: int) -> None:
        super().__init__()
        unit = torch.tensor([[0.1] * 4, [1.0] * 4], dtype=torch.float64)
        self.register_buffer("physics_range", unit)
        unknown = torch.tensor([0.0, torch.inf], dtype=torch.float64)
        self.register_buffer("usual_motion", unknown)  # of a tracer: mean, standard deviation
        self.register_buffer("dt", torch.tensor(torch.nan, dtype=torch.float64))  # years
        self.register_buffer("latent_mean", torch.zeros(latents))
        self.register_buffer("latent_precision", torch.eye(latents))
        joint = torch.eye(latents + 4, dtype=torch.float64)  # nearly singular: needs the digits
        self.register_buffer("joint_mean", torch.zeros_like(joint[0]))
        self.register_buffer("joint_precision", joint)

    def set_statistics(self, statistics: ChemistryStatistics, latents: LatentStatistics) -> None:
        """Fill the buffers.

        Args:
            statistics: Of the training tracers.
            latents: Of their latents.
        """
        self.physics_range.copy_(statistics.physics_range)
        self.usual_motion.copy_(statistics.physics_motion)
        self.dt.fill_(statistics.dt)
        self.latent_mean.copy_(latents.mean)
        self.latent_precision.copy_(precision(latents.covariance))
        self.joint_mean.copy_(latents.joint_mean)
        self.joint_precision.copy_(precision(latents.joint_covariance))

    def step(self) -> float | None:
        """Median length in years of the steps of training, None where it is not known."""
        return None if bool(self.dt.isnan()) else float(self.dt)

    def excess(self, physics: Tensor) -> Tensor:
        """How far conditions lie outside their ranges, 0 inside and up to rounding.

        Args:
            physics: Conditions in physical units, ``(..., 4)``.

        Returns:
            In units of the training ranges on a logarithmic scale, same shape.
        """
        logarithm = physics.log10()
        low, high = self.physics_range.to(physics).log10()
        beyond = (logarithm - high).clamp(min=0) + (low - logarithm).clamp(min=0)
        excess: Tensor = beyond.where(beyond > ROUNDING, 0.0) / (high - low).clamp(min=ROUNDING)
        return excess

    def forward(self, states: Tensor, physics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Conditions outside their ranges, distance of the latents, and the score.

        Args:
            states: Latents at the start and after every step, ``(b, t + 1, L)``.
            physics: Conditions of the steps in physical units, ``(b, t, 4)``.

        Returns:
            Three tensors ``(b,)``, see `sciml.astrochem.apply.Extrapolation`.
        """
        excess = self.excess(physics)
        outside = (excess > 0).sum((1, 2))
        distance = self.mahalanobis(states).square().mean(1).sqrt()
        joint = torch.cat([states[:, :-1].double(), physics.double().log10()], -1)
        strange = _distance(joint, self.joint_mean, self.joint_precision)
        score = strange.square().mean(1).sqrt() + EXCESS * excess.amax((1, 2))
        return outside, distance, score + MOTION * self._unusual_motion(physics)

    def mahalanobis(self, latent: Tensor) -> Tensor:
        """Distance of latents to those of the training rows over ``√L``, ``(...)``.

        Args:
            latent: ``(..., L)``.
        """
        return _distance(latent.double(), self.latent_mean, self.latent_precision)

    def _unusual_motion(self, physics: Tensor) -> Tensor:
        if physics.shape[1] < 2:
            return physics.new_zeros(len(physics), dtype=torch.float64)
        mean, std = self.usual_motion
        beyond: Tensor = (motion(physics) - mean).abs() / std - USUAL
        return beyond.clamp(min=0)


def upgrade(weights: dict[str, Tensor]) -> None:
    """Bring an emulator's checkpoint from before its domain knew the step to the present names.

    Args:
        weights: Tensors by name, edited in place.
    """
    if "domain.motion" in weights:
        unknown = torch.tensor(torch.nan, dtype=torch.float64)
        weights["domain.usual_motion"] = weights.pop("domain.motion")
        weights["domain.dt"] = weights.get("net.dt_ref", unknown).clone()


def _distance(values: Tensor, mean: Tensor, precision: Tensor) -> Tensor:
    """Mahalanobis distance over the root of the number of dimensions."""
    gap = values - mean.double()
    square = ((gap @ precision.double()) * gap).sum(-1)
    return (square.clamp(min=0) / values.shape[-1]).sqrt()
