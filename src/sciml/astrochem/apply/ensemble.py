"""Several emulators of the same chemistry, whose spread is an uncertainty (k emulators)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Generic, NamedTuple

import torch

from sciml.astrochem.apply.emulator import CHUNK, AstroEmulator
from sciml.astrochem.apply.inputs import Array, Kind, like, pieces


class Spread(NamedTuple, Generic[Kind]):
    """Prediction of an ensemble.

    Args:
        abundance: Geometric mean, projected on the elements of the start, ``(b, t, S)``.
        std: Standard deviation of log10 of the abundances in dex, same shape.
    """

    abundance: Kind
    std: Kind


class EmulatorEnsemble:
    """Emulators trained with different seeds on the same species.

    Args:
        emulators: At least two.

    Raises:
        ValueError: If there are fewer, or their species differ.
    """

    def __init__(self, emulators: Sequence[AstroEmulator]) -> None:
        if len(emulators) < 2:
            raise ValueError("a spread needs at least two emulators")
        for place, one in enumerate(emulators):
            if one.species != emulators[0].species:
                raise ValueError(f"emulator {place} has other species than the first one")
        self.emulators = tuple(emulators)
        self.species = emulators[0].species

    @classmethod
    def from_checkpoints(
        cls,
        paths: Sequence[str | Path],
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "EmulatorEnsemble":
        """The emulators of some checkpoints.

        Args:
            paths: Checkpoints of `EmulatorTask`.
            device: Where they compute.
            dtype: float32 or float64.

        Raises:
            ValueError: If one is no emulator, or their species differ.
        """
        return cls([AstroEmulator.from_checkpoint(path, device, dtype) for path in paths])

    def emulate(
        self, p: Kind, x0: Array, dt: float | Array | None = None, *, chunk: int = CHUNK
    ) -> Spread[Kind]:
        """Mean and spread of the abundances x_1..x_t of histories.

        Args:
            p: Conditions of the steps in physical units, ``(t, 4)`` or ``(b, t, 4)``.
            x0: Initial abundances per H nucleus, ``(S,)`` or ``(b, S)``, not scaled.
            dt: Lengths of the steps in years.
            chunk: Rows decoded at once.

        Raises:
            ValueError: If a shape, a condition or an abundance is wrong; says where.
        """
        first = self.emulators[0]
        physics = torch.as_tensor(p)
        logarithms = [
            one.emulate(physics, x0, dt, chunk=chunk).double().log10() for one in self.emulators
        ]
        stacked = torch.stack(logarithms)
        mean = (10.0 ** stacked.mean(0)).flatten(0, -2)
        starts = torch.as_tensor(x0).expand(*stacked.shape[1:-2], -1)
        totals = starts[..., None, :].expand(stacked.shape[1:]).flatten(0, -2)
        for part in pieces(len(mean), chunk):  # the mean of logarithms conserves nothing
            mean[part] = first.project(mean[part], totals[part]).abundance.to(mean)
        abundance = mean.view(stacked.shape[1:]).to(first.dtype)
        return Spread(like(p, abundance), like(p, stacked.std(0).to(first.dtype)))
