"""Abundances, conditions and latents between physical and network units (b rows, S species)."""

import math

import torch
from torch import Tensor, nn

LN10 = math.log(10.0)


class AbundanceScaler(nn.Module):
    """Scaled abundance ``s = (log10 x - log10 lo) / (log10 hi - log10 lo)``, x clipped first.

    With the defaults ``s = 1 + log10(x) / 20``. Both directions keep full precision under mixed
    precision: a scaled value near 1 rounded to bfloat16 would be off by 0.08 dex.

    Args:
        lo: Abundance that becomes 0.
        hi: Abundance that becomes 1.

    Raises:
        ValueError: Unless ``0 < lo < hi``.
    """

    limits: Tensor

    def __init__(self, lo: float = 1e-20, hi: float = 1.0) -> None:
        super().__init__()
        self.ln10 = LN10  # an attribute, since scripted programs know no globals
        self.register_buffer("limits", torch.zeros(2, dtype=torch.float64))
        self.set_limits(lo, hi)

    @torch.jit.unused
    def set_limits(self, lo: float, hi: float) -> None:
        """Choose the range of abundances.

        Args:
            lo: Abundance that becomes 0.
            hi: Abundance that becomes 1.

        Raises:
            ValueError: Unless ``0 < lo < hi``.
        """
        if not 0 < lo < hi:
            raise ValueError(
                f"abundances from lo {lo} to hi {hi} cannot be scaled; use 0 < lo < hi"
            )
        limits = torch.tensor([lo, hi], dtype=torch.float64)
        self.limits.copy_(limits.log10())

    @torch.jit.unused
    def range(self) -> tuple[float, float]:
        """The abundances ``lo`` and ``hi``."""
        lo, hi = self.limits.tolist()
        return 10.0**lo, 10.0**hi

    def scale(self, abundance: Tensor) -> Tensor:
        """Scaled abundances, in ``[0, 1]``.

        Args:
            abundance: Per H nucleus, any shape, float32 or float64.

        Returns:
            Same shape and type.
        """
        wide = abundance.to(torch.promote_types(abundance.dtype, torch.float32))
        limits = self.limits.to(wide.dtype)
        logarithm = torch.log10(torch.clamp(wide, min=1e-37))
        return torch.clamp((logarithm - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0)

    def unscale(self, scaled: Tensor) -> Tensor:
        """Abundances of scaled ones, clipped to the range.

        Args:
            scaled: Any shape.

        Returns:
            Abundance per H nucleus, same shape, at least float32.
        """
        wide = scaled.to(torch.promote_types(scaled.dtype, torch.float32))
        limits = self.limits.to(wide.dtype)
        span, low = limits[1] - limits[0], limits[0]
        # in place, in an array of its own: with all species this is memory traffic alone
        return torch.clamp(wide, 0.0, 1.0).mul_(span).add_(low).mul_(self.ln10).exp_()

    def forward(self, abundance: Tensor) -> Tensor:
        """Same as `scale`."""
        return self.scale(abundance)


class PhysicsScaler(nn.Module):
    """log10 of the conditions, min-max scaled with the ranges of the training tracers.

    Values outside the range scale outside ``[0, 1]``.
    """

    limits: Tensor

    def __init__(self) -> None:
        super().__init__()
        unit = torch.tensor([[0.0] * 4, [1.0] * 4], dtype=torch.float64)
        self.register_buffer("limits", unit)

    @torch.jit.unused
    def set_range(self, physics_range: Tensor) -> None:
        """Choose the ranges.

        Args:
            physics_range: Smallest and largest conditions, ``(2, 4)`` in physical units.

        Raises:
            ValueError: If a range is not positive.
        """
        if not bool((physics_range > 0).all()):
            raise ValueError("conditions have to be positive: density, field, Av and temperature")
        low, high = physics_range.double().log10()
        self.limits.copy_(torch.stack([low, torch.maximum(high, low + 1e-6)]))

    def scale(self, physics: Tensor) -> Tensor:
        """Scaled conditions.

        Args:
            physics: Density, field, Av, temperature in physical units, ``(..., 4)``.

        Returns:
            Same shape, at least float32.
        """
        wide = physics.to(torch.promote_types(physics.dtype, torch.float32))
        limits = self.limits.to(wide.dtype)
        return (torch.log10(wide) - limits[0]) / (limits[1] - limits[0])

    def forward(self, physics: Tensor) -> Tensor:
        """Same as `scale`."""
        return self.scale(physics)


class LatentScaler(nn.Module):
    """Min-max scaling of latents with the extremes of the training rows.

    Args:
        latent_dim: Latents L.
        per_dimension: One pair for every latent; the original recipe has one pair for all.
    """

    limits: Tensor

    def __init__(self, latent_dim: int, per_dimension: bool = True) -> None:
        super().__init__()
        self.per_dimension = per_dimension
        self.register_buffer(
            "limits", torch.stack([torch.zeros(latent_dim), torch.ones(latent_dim)])
        )

    @torch.jit.unused
    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Choose the extremes.

        Args:
            low: Smallest latent of every dimension, ``(L,)``.
            high: Largest, ``(L,)``.
        """
        if not self.per_dimension:
            low, high = low.min().expand_as(low), high.max().expand_as(high)
        self.limits.copy_(torch.stack([low, torch.maximum(high, low + 1e-6)]))

    def scale(self, latent: Tensor) -> Tensor:
        """Scaled latents, ``(..., L)``; 0 to 1 on the training rows."""
        return (latent - self.limits[0]) / (self.limits[1] - self.limits[0])

    def unscale(self, scaled: Tensor) -> Tensor:
        """Latents of scaled ones, ``(..., L)``."""
        return scaled * (self.limits[1] - self.limits[0]) + self.limits[0]

    def forward(self, latent: Tensor) -> Tensor:
        """Same as `scale`."""
        return self.scale(latent)
