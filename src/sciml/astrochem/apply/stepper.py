"""Chemistry of the cells of a hydrodynamics code (N cells, L latents, c species)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sciml.astrochem.apply.emulator import AstroEmulator
from sciml.astrochem.apply.inputs import (
    Array,
    Kind,
    as_tensor,
    check_abundance,
    check_physics,
    few,
    like,
    pieces,
)


class CellStepper:
    """Advance the latents of many cells in place, and decode only what is asked for.

    The code keeps the latents ``(N, L)`` of its cells, advects them like any other passive
    quantity, and asks for the few species that it needs. The conditions of the step before are
    kept here, since a state lags behind conditions that change; `forget` drops them when cells
    are exchanged.

    Args:
        emulator: A checkpoint of `EmulatorTask`, or an open emulator.
        chunk: Cells advanced or decoded at once; bounds the memory. By default 512 on a CPU, where
            many more are slower, and 65,536 elsewhere.
    """

    def __init__(self, emulator: AstroEmulator | str | Path, chunk: int | None = None) -> None:
        if not isinstance(emulator, AstroEmulator):
            emulator = AstroEmulator.from_checkpoint(emulator)
        self.emulator = emulator
        self.chunk = few(emulator.device) if chunk is None else chunk
        self._before: Tensor | None = None

    def encode(self, abundance: Kind) -> Kind:
        """Latents ``(N, L)`` of abundances per H nucleus ``(N, S)``, not scaled.

        Args:
            abundance: In the order of the emulator's species.

        Raises:
            ValueError: If the number of species is another one, or an abundance is wrong.
        """
        own = self.emulator
        values = as_tensor(abundance, "abundance", own.device, own.dtype)
        check_abundance(values, own.species)
        latent = torch.empty(len(values), own.latent_dim, dtype=own.dtype, device=own.device)
        for part in pieces(len(values), self.chunk):
            latent[part] = own.encode(values[part])
        return like(abundance, latent)

    @torch.no_grad()
    def advance(self, latent: Kind, physics: Array, dt: float | Array | None = None) -> Kind:
        """Advance all cells by one step, in place.

        Args:
            latent: Floating point ``(N, L)``; overwritten.
            physics: Conditions that act during the step, in physical units, ``(N, 4)``.
            dt: Length of the step in years, one number or ``(N,)``; that of training by default.

        Returns:
            The same array.

        Raises:
            ValueError: If a shape, a condition or a length is wrong; the latents are untouched.
        """
        own = self.emulator
        state = as_tensor(latent, "latent", own.device, own.dtype)
        present = as_tensor(physics, "physics", own.device, own.dtype)
        check_physics(present)
        if state.dim() != 2 or state.shape[1] != own.latent_dim or len(present) != len(state):
            raise ValueError(
                f"latents of shape {tuple(state.shape)} and conditions of shape "
                f"{tuple(present.shape)} are not (N, {own.latent_dim}) and (N, 4)"
            )
        before = present if self._before is None else self._before
        if len(before) != len(state):
            raise ValueError(
                f"{len(state)} cells come after {len(before)}; call forget() when cells change"
            )
        lengths = own.lengths(dt, (len(state),))
        target = latent if isinstance(latent, Tensor) else torch.from_numpy(latent)
        for part in pieces(len(state), self.chunk):
            own_dt = None if lengths is None else lengths[part]
            target[part] = own.step(state[part], present[part], own_dt, before[part]).to(target)
        self._before = present.clone()
        return latent

    def forget(self) -> None:
        """Start anew: the conditions of the next step count as those of the step before it."""
        self._before = None

    @torch.no_grad()
    def species_of(self, latent: Kind, names: Sequence[str]) -> Kind:
        """Abundances of some species, without decoding the others, ``(N, c)``.

        They are those of `AstroEmulator.decode`: a projection on the elements needs all species.

        Args:
            latent: ``(N, L)``.
            names: Species.

        Raises:
            ValueError: If a species is not one of the emulator.
        """
        own = self.emulator
        unknown = [name for name in names if name not in own.species]
        if unknown:
            raise ValueError(f"{unknown[0]} is no species of the emulator; see its species")
        columns = torch.tensor([own.species.index(name) for name in names], device=own.device)
        state = as_tensor(latent, "latent", own.device, own.dtype)
        found = torch.empty(len(state), len(names), dtype=own.dtype, device=own.device)
        for part in pieces(len(state), self.chunk):
            scaled = own.task.autoencoder.decode_species(state[part], columns)
            found[part] = own.task.scaler.unscale(scaled)
        return like(latent, found)
