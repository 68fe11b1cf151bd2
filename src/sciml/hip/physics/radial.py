"""Functions of a distance: radial basis and smooth cutoff."""

import math

import torch
from torch import Tensor


def bessel(distance: Tensor, count: int, r_max: float) -> Tensor:
    """Spherical Bessel functions that vanish at the cutoff, ``√(2/r_max) sin(kπr/r_max) / r``.

    Args:
        distance: Distances r in Å, positive, shape ``(...)``.
        count: Number of functions, k = 1…count.
        r_max: Cutoff in Å.

    Returns:
        Values in Å^(-3/2), shape ``(..., count)``.
    """
    order = torch.arange(1, count + 1, device=distance.device, dtype=distance.dtype)
    r = distance.unsqueeze(-1)
    return math.sqrt(2 / r_max) * torch.sin(order * (math.pi / r_max) * r) / r


def polynomial_cutoff(distance: Tensor, r_max: float, power: int) -> Tensor:
    """Envelope that falls from 1 to 0 at the cutoff with two vanishing derivatives.

    ``1 − (p+1)(p+2)/2 uᵖ + p(p+2) uᵖ⁺¹ − p(p+1)/2 uᵖ⁺²`` with ``u = r/r_max``, zero beyond.

    Args:
        distance: Distances r in Å, shape ``(...)``.
        r_max: Cutoff in Å.
        power: Exponent p, at least 2; a larger one keeps the envelope near 1 for longer.

    Returns:
        Values between 0 and 1, same shape.
    """
    u = distance / r_max
    p = power
    polynomial = (p + 1) * (p + 2) / 2 - p * (p + 2) * u + p * (p + 1) / 2 * u.square()
    return torch.where(u < 1, 1 - u.pow(p) * polynomial, torch.zeros_like(u))
