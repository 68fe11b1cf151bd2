"""The default emulator: a residual flow map of the latents (b rows, t steps, L latents)."""

import torch
from torch import Tensor, nn

from sciml.astrochem.net.base import EmulatorNet, LatentStatistics
from sciml.astrochem.physics.statistics import ChemistryStatistics

DELTA_GAIN = 3.0  # conditions change little in a step


def rate_features(physics: Tensor) -> Tensor:
    """Quantities of order one that photo, cosmic-ray and thermal rates depend on.

    ``log10(G exp(-2 Av)) / 3`` between -8/3 and 1, ``exp(-Av)``, ``30 K / T - 1`` and
    ``exp(-30 K / T)``, at temperatures of 2 K at least.

    Args:
        physics: Density, field, Av, temperature in physical units, ``(..., 4)``.

    Returns:
        Same shape, at least float32.
    """
    wide = physics.to(torch.promote_types(physics.dtype, torch.float32))
    field, visual, temperature = wide[..., 1], wide[..., 2], wide[..., 3]
    photo = torch.log10(field) - 0.8686 * torch.clamp(visual, max=12.0)  # 2 / ln 10
    warmth = 30.0 / torch.clamp(temperature, min=2.0)  # nothing is colder than the background
    return torch.stack(
        [torch.clamp(photo, -8.0, 3.0) / 3, torch.exp(-visual), warmth - 1, torch.exp(-warmth)], -1
    )


class Block(nn.Module):
    """``h + W₂ silu(W₁ norm(h))``.

    Args:
        width: Hidden units.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.rise = nn.Linear(width, width)
        self.fall = nn.Linear(width, width)
        self.activation = nn.SiLU(inplace=True)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden state of the next block, ``(b, width)``."""
        change: Tensor = self.fall(self.activation(self.rise(self.norm(hidden))))
        return change.add_(hidden)


class Branch(nn.Module):
    """Change of the latents over a step, in units of their typical change.

    The last layer starts at zero.

    Args:
        latent_dim: Latents L.
        inputs: Numbers f that describe the conditions.
        width: Hidden units.
        blocks: Residual blocks.
    """

    def __init__(self, latent_dim: int, inputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.rise_latent = nn.Linear(latent_dim, width)
        self.rise_physics = nn.Linear(inputs, width, bias=False)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.fall = nn.Linear(width, latent_dim)
        nn.init.zeros_(self.fall.weight)
        nn.init.zeros_(self.fall.bias)

    def forward(self, latent: Tensor, conditions: Tensor) -> Tensor:
        """Change ``(b, L)`` from latents ``(b, L)`` and conditions ``(b, f)``."""
        return self.change(latent, self.rise_physics(conditions))

    def change(self, latent: Tensor, drive: Tensor) -> Tensor:
        """Like `forward`, with what the conditions add to the first hidden state given.

        Args:
            latent: ``(b, L)``.
            drive: ``(b, width)``.
        """
        change: Tensor = self.fall(self.blocks(self.rise_latent(latent) + drive))
        return change


class FlowMap(EmulatorNet):
    """``z' = z + σ f(z, p, p - p_before)`` with σ the typical change of a latent over a step.

    Conditions enter as log10, standardised with the training tracers, and as three times their
    change since the step before, because a state lags behind conditions that move. An untrained
    map holds the state.

    Several members are trained side by side, each on its own rollouts. The map is the mean of
    their changes, which is more accurate than one network of the same cost where training tracers
    are few; their disagreement is a measure of uncertainty.

    Args:
        latent_dim: Latents L of the autoencoder.
        hidden: Width of the blocks.
        blocks: Residual blocks.
        members: Networks f whose mean is the map.
        rates: Also give what rate coefficients depend on, ``G exp(-2 Av)``, ``exp(-Av)``, ``1/T``
            and ``exp(-30 K / T)``: logarithms alone leave these exponentials to be learned.
        phys_delta: Also give the change of the conditions; without it the map depends on the
            present alone, as couplings need that cannot keep the conditions of the last step.
        dt_input: Also give ``log10(dt / dt_ref)``, for data with steps of several lengths.

    Raises:
        ValueError: If there are no members.
    """

    physics_mean: Tensor
    physics_std: Tensor
    increment: Tensor
    dt_ref: Tensor

    def __init__(
        self,
        latent_dim: int = 24,
        hidden: int = 256,
        blocks: int = 3,
        *,
        members: int = 1,
        rates: bool = True,
        phys_delta: bool = True,
        dt_input: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if members < 1:
            raise ValueError(f"members is {members}; a flow map needs at least one")
        self.state_dim = latent_dim
        self.members = members
        self.rates = rates
        self.phys_delta = phys_delta
        self.dt_input = dt_input
        self.delta_gain = DELTA_GAIN
        inputs = 4 + 4 * phys_delta + 4 * rates + dt_input
        self.branches = nn.ModuleList(
            Branch(latent_dim, inputs, hidden, blocks) for _ in range(members)
        )
        self.register_buffer("physics_mean", torch.zeros(4, dtype=torch.float64))
        self.register_buffer("physics_std", torch.ones(4, dtype=torch.float64))
        self.register_buffer("increment", torch.ones(latent_dim))
        self.register_buffer("dt_ref", torch.ones((), dtype=torch.float64))

    def set_statistics(self, statistics: ChemistryStatistics, latents: LatentStatistics) -> None:
        self.physics_mean.copy_(statistics.physics_mean)
        self.physics_std.copy_(statistics.physics_std.clamp(min=1e-3))
        self.increment.copy_(latents.increment + 1e-4)
        self.dt_ref.fill_(statistics.dt)

    def step(
        self,
        latent: Tensor,
        physics: Tensor,
        dt: Tensor | None = None,
        physics_before: Tensor | None = None,
    ) -> Tensor:
        before = physics if physics_before is None else physics_before
        conditions = self._conditions(physics, before, dt, latent)
        change = torch.zeros_like(latent)
        for branch in self.branches:
            change = change + branch(latent, conditions)
        return latent + self.increment * change / self.members

    def rollout(self, latent: Tensor, physics: Tensor, dt: Tensor | None = None) -> Tensor:
        return self._roll(self._members(), latent, physics, dt)

    def rollout_each(self, latent: Tensor, physics: Tensor, dt: Tensor | None = None) -> Tensor:
        rolled = [self._roll([branch], latent, physics, dt) for branch in self._members()]
        return torch.stack(rolled)

    def _members(self) -> list[Branch]:
        return [branch for branch in self.branches if isinstance(branch, Branch)]

    def _roll(
        self, branches: list[Branch], latent: Tensor, physics: Tensor, dt: Tensor | None
    ) -> Tensor:
        before = torch.cat([physics[:, :1], physics[:, :-1]], 1)
        conditions = self._conditions(physics, before, dt, latent)
        drives = [branch.rise_physics(conditions) for branch in branches]  # of all steps at once
        scale = self.increment / len(branches)
        states: list[Tensor] = []
        for step in range(physics.shape[1]):  # each state needs the one before
            change = torch.zeros_like(latent)
            for branch, drive in zip(branches, drives, strict=True):  # few
                change = change + branch.change(latent, drive[:, step])
            latent = latent + scale * change
            states.append(latent)
        return torch.stack(states, 1)

    def _conditions(
        self, physics: Tensor, before: Tensor, dt: Tensor | None, latent: Tensor
    ) -> Tensor:
        """Everything the members are told about a step, ``(..., f)`` in the type of the latents."""
        present = self._standardise(physics)
        parts = [present]
        if self.phys_delta:
            parts.append(self.delta_gain * (present - self._standardise(before)))
        if self.rates:
            parts.append(rate_features(physics).to(present.dtype))
        if self.dt_input:
            length = self.dt_ref.expand(present.shape[:-1]) if dt is None else dt.double()
            ratio = torch.log10(length / self.dt_ref)
            parts.append(ratio[..., None].to(present.dtype))
        return torch.cat(parts, -1).to(latent.dtype)

    def _standardise(self, physics: Tensor) -> Tensor:
        wide = physics.to(torch.promote_types(physics.dtype, torch.float32))
        mean, spread = self.physics_mean.to(wide.dtype), self.physics_std.to(wide.dtype)
        return (torch.log10(wide) - mean) / spread
