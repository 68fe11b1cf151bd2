"""One step of chemistry behind one interface, whatever computes it.

Letters: S species, E elements.
"""

from abc import ABC, abstractmethod
from collections import Counter

import numpy as np

from sciml.astrochem.generate.network import Floats
from sciml.astrochem.physics.species import initial_abundances


class StepError(RuntimeError):
    """A step of the chemistry could not be computed."""


class Chemistry(ABC):
    """A network with a solver.

    Args:
        species: Names of the species.
        elements: Names of the elements.
        composition: Atoms of each element in each species, shape ``(S, E)``.
        charge: Charge of each species, shape ``(S,)``.
    """

    def __init__(
        self,
        species: tuple[str, ...],
        elements: tuple[str, ...],
        *,
        composition: Floats,
        charge: Floats,
    ) -> None:
        self.species = species
        self.elements = elements
        self.composition = composition
        self.charge = charge
        self.fallbacks: Counter[str] = Counter()
        """Steps by the method that had to take them over."""

    @abstractmethod
    def advance(self, x: Floats, p: Floats, dt: float) -> Floats:
        """Abundances after a step under constant conditions.

        Args:
            x: Abundances per H nucleus, shape ``(S,)``.
            p: Density in H nuclei per cm³, radiation field in Habing, visual extinction in
                magnitudes, temperature in K, shape ``(4,)``.
            dt: Length of the step in years.

        Returns:
            Abundances per H nucleus, shape ``(S,)``.

        Raises:
            StepError: If the step cannot be computed.
        """

    def atoms(self) -> Floats:
        """Abundances of a cloud of atoms, ions and H2 without a net charge, shape ``(S,)``."""
        x = initial_abundances(self.species)
        if "E-" in self.species:
            electron = self.species.index("E-")
            x[electron] = 0.0
            x[electron] = self.charge @ x
        return x

    def cpu_seconds(self) -> float:
        """CPU time in s of processes that this object started; its own process is not counted."""
        return 0.0


def element_drift(chemistry: Chemistry, before: Floats, after: Floats) -> float:
    """Largest relative change of an element's total.

    Args:
        chemistry: Says what the species are made of.
        before: Abundances, shape ``(S,)``.
        after: Abundances, shape ``(..., S)``.
    """
    totals = before @ chemistry.composition
    there = totals > 1e-20
    change = (after @ chemistry.composition)[..., there] / totals[there] - 1
    return float(np.abs(change).max(initial=0.0))
