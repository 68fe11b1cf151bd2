"""Which events of a file are used, told by their truths."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sciml.xec.data.branches import Arrays
from sciml.xec.physics.coordinates import in_fiducial


@dataclass(frozen=True)
class Cuts:
    """Conditions on the truths of an event; without any every event is used.

    Args:
        fiducial: First interaction in the fiducial volume: |u| < 23.9 cm, |v| < 67.9 cm, w >= 0.
        depth: Largest w in cm of that volume.
        energy: Least and largest energy in GeV.

    Raises:
        ValueError: If they contradict themselves.
    """

    fiducial: bool = False
    depth: float | None = None
    energy: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.depth is not None and not self.fiducial:
            raise ValueError("cuts.depth limits the fiducial volume; set cuts.fiducial too")
        if self.energy is not None and not self.energy[0] < self.energy[1]:
            low, high = self.energy
            raise ValueError(f"cuts.energy is {low} to {high} GeV; give the smaller one first")

    @property
    def needs(self) -> dict[str, str]:
        """Truths that are looked at, each with the setting that asks for it."""
        asked = {"uvw": ("cuts.fiducial", self.fiducial), "energy": ("cuts.energy", self.energy)}
        return {name: setting for name, (setting, given) in asked.items() if given}

    def passing(self, truths: Arrays) -> NDArray[np.bool_]:
        """Which events are used; those without a valid truth are not.

        Args:
            truths: Those of `needs`: uvw ``(b, 3)`` in cm, energy ``(b,)`` in GeV.

        Returns:
            ``(b,)``.
        """
        kept = np.ones(len(next(iter(truths.values()))), dtype=np.bool_)
        if self.fiducial:
            kept &= in_fiducial(truths["uvw"], self.depth)
        if self.energy is not None:
            low, high = self.energy
            kept &= (truths["energy"] >= low) & (truths["energy"] <= high)
        return kept


NO_CUTS = Cuts()
