"""Losses of the quantities of a gamma (b events, k components).

β-weighted negative log-likelihood: Seitzer et al., arXiv:2203.09168.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import (
    cosine_similarity,
    cross_entropy,
    huber_loss,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)

from sciml.xec.physics.coordinates import emission_direction

Kind = Literal[
    "usual",
    "gaussian_nll",
    "von_mises_fisher",
    "cosine",
    "cross_entropy",
    "smooth_l1",
    "huber",
    "l1",
    "mse",
    "relative_l1",
    "relative_smooth_l1",
    "relative_mse",
]
LOG_VARIANCE = (-12.0, 8.0)  # limits of a predicted one, in units of the target's scale
LOG_CONCENTRATION = (-4.0, 12.0)
SMALLEST = 1e-3  # |y| that relative losses divide by at least


@dataclass(frozen=True)
class TaskLoss:
    """How the error of one quantity counts.

    The error is divided by `scale` first, so that weights of 1 are comparable.

    Args:
        kind: usual is the likelihood where the network gives uncertainties, else smooth_l1, for
            directions cosine, for numbers of gammas cross_entropy. gaussian_nll and
            von_mises_fisher need a network that gives uncertainties, cosine and von_mises_fisher
            are for directions.
        weight: Factor of the loss in the sum.
        scale: Error that counts as 1, in the units the network is trained in; by default angle
            10°, energy 0.05 (GeV, or of the logarithm), timing 0.2 ns, uvwFI 1 cm.
        beta: gaussian_nll: exponent of the variance that multiplies the loss, 0 is the likelihood
            itself; smooth_l1: error at which it becomes linear; huber: the same.
        log_transform: Train on the logarithm of a quantity, of networks that do not do so anyway.

    Raises:
        ValueError: If a number is out of range.
    """

    kind: Kind = "usual"
    weight: float = 1.0
    scale: float | None = None
    beta: float = 0.5
    log_transform: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"no loss '{self.kind}'; there are {', '.join(get_args(Kind))}")
        if self.weight < 0 or (self.scale is not None and not 0 < self.scale < math.inf):
            raise ValueError(
                f"the loss {self.kind} has weight {self.weight} and scale {self.scale}; give a "
                "weight of at least 0 and a positive scale"
            )

    @property
    def has_spread(self) -> bool:
        """Whether the network has to give uncertainties."""
        return self.kind in {"gaussian_nll", "von_mises_fisher"}


def event_loss(loss: TaskLoss, output: Tensor, target: Tensor, scale: float) -> Tensor:
    """Loss of every event, in float32 or better, ``(b,)``.

    Args:
        loss: Which.
        output: Of the network: means, with logarithms of the variances behind them where the loss
            needs them ``(b, 2 k)``; a unit vector and the logarithm of the concentration
            ``(b, 4)``; logits. The cosine takes vectors, or angles in degrees where k is 2.
        target: In the space the network is trained in, ``(b, k)``; classes ``(b,)``.
        scale: Error that counts as 1.
    """
    if loss.kind == "usual":
        raise ValueError("the usual loss depends on the network; choose_losses tells which it is")
    output = output.to(torch.promote_types(output.dtype, torch.float32))
    if loss.kind == "cross_entropy":
        return cross_entropy(output, target.long(), reduction="none")
    target = target.to(output)
    if loss.kind == "cosine":
        return _cosine(output, target)
    if loss.kind == "von_mises_fisher":
        return von_mises_fisher(output, target)
    if loss.kind == "gaussian_nll":
        mean, log_variance = output.chunk(2, dim=1)
        shifted = log_variance - 2 * math.log(scale)
        return gaussian_nll((mean - target) / scale, shifted, loss.beta).mean(1)
    return _pointwise(loss, output, target, scale).mean(1)


def nearest_turn(angles: Tensor, output: Tensor) -> Tensor:
    """True angles whose azimuth is moved by whole turns to that of the network.

    Args:
        angles: θ and φ in degrees, ``(b, 2)``.
        output: Those of the network, with anything behind them, ``(b, 2 …)``.
    """
    turns = ((output[:, 1] - angles[:, 1]) / 360).round().detach()
    return torch.stack([angles[:, 0], angles[:, 1] + 360 * turns], 1)


def gaussian_nll(error: Tensor, log_variance: Tensor, beta: float) -> Tensor:
    """``stopgrad(σ²)^β ½ (s + error² / σ²)`` with ``s = ln σ²`` limited to -12…8.

    Args:
        error: Prediction less truth, any shape.
        log_variance: s, same shape.
        beta: 0 is the negative log-likelihood less a constant, 1 close to squared errors.
    """
    limited = log_variance.clamp(*LOG_VARIANCE)
    variance = limited.exp()
    return variance.detach() ** beta * 0.5 * (limited + error.square() / variance)


def von_mises_fisher(output: Tensor, direction: Tensor) -> Tensor:
    """Negative log-likelihood of unit vectors, ``(b,)``.

    Args:
        output: Unit vectors, and the logarithms of the concentrations κ, ``(b, 4)``.
        direction: True unit vectors, ``(b, 3)``.
    """
    concentration = output[:, 3].clamp(*LOG_CONCENTRATION).exp()
    cosine = (output[:, :3] * direction).sum(1)
    # ln(κ / (4π sinh κ)) without overflow
    norm = concentration.log() - math.log(2 * math.pi) - torch.log1p(-(-2 * concentration).exp())
    return concentration * (1 - cosine) - norm


def _cosine(output: Tensor, target: Tensor) -> Tensor:
    if target.shape[1] == 2:
        output, target = emission_direction(output[:, :2]), emission_direction(target)
    return 1 - cosine_similarity(output[:, :3], target, dim=1)


def _pointwise(loss: TaskLoss, output: Tensor, target: Tensor, scale: float) -> Tensor:
    """Losses ``(b, k)`` of the forms that need no uncertainty."""
    output = output[:, : target.shape[1]]
    kind = loss.kind.removeprefix("relative_")
    mean, true = output / scale, target / scale
    if kind == "smooth_l1":
        found = smooth_l1_loss(mean, true, beta=loss.beta, reduction="none")
    elif kind == "huber":
        found = huber_loss(mean, true, delta=loss.beta, reduction="none")
    elif kind == "l1":
        found = l1_loss(mean, true, reduction="none")
    else:
        found = mse_loss(mean, true, reduction="none")
    if loss.kind == kind:
        return found
    size = target.abs().clamp(min=SMALLEST)
    return found / (size.square() if kind == "mse" else size)
