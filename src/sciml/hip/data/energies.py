"""Reference energies of elements: what is taken off a total energy before a network sees it.

Shapes: s elements, b molecules.
"""

from collections.abc import Mapping

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

# eV; the per-element fit that `ae` of the HORM files was made with, recovered from the files
HORM_E0 = {1: -16.713167, 6: -1035.520996, 7: -1489.140607, 8: -2046.242508}

# eV; isolated atoms at ωB97X/6-31G(d)
ISOLATED_E0 = {
    1: -13.62222753701504,
    6: -1029.4130839658328,
    7: -1484.8710358098756,
    8: -2041.8396277138045,
    9: -2712.8213146878606,
}

RANK = 1e-10  # eigenvalue of the normal equations, relative to the largest, that counts as zero


def total_energy(interaction: float, numbers: NDArray[np.int64], e0: Mapping[int, float]) -> float:
    """Interaction energy plus the reference energies of the atoms, in eV.

    Args:
        interaction: Energy without them in eV.
        numbers: Atomic numbers, shape ``(n,)``.
        e0: Energy of every element in eV.
    """
    kinds, counts = np.unique(numbers, return_counts=True)
    pairs = zip(kinds.tolist(), counts.tolist(), strict=True)
    return float(interaction + sum(count * e0[kind] for kind, count in pairs))


def reference_energies(
    setting: str | Mapping[int, float],
    declared: Mapping[int, float] | None,
    fit: "CompositionFit",
) -> NDArray[np.float64]:
    """Energy of every element that is taken off, in eV, float64, shape ``(s,)``.

    Args:
        setting: ``auto`` takes what the files declare and fits the other elements to what is left,
            or all if nothing is declared; ``average`` fits all; ``isolated`` takes free atoms at
            ωB97X/6-31G(d); a table of atomic numbers is taken as it is.
        declared: What the files say, None if they say nothing.
        fit: Has seen the total energies and compositions of the training molecules.

    Raises:
        ValueError: If the table lacks an element.
    """
    if setting == "average" or (setting == "auto" and declared is None):
        return fit.solve()
    if setting == "auto":
        return fit.solve(declared)
    table = ISOLATED_E0 if setting == "isolated" else setting
    if isinstance(table, str):
        raise ValueError(f"data.e0 is '{table}'; give auto, average, isolated or a table")
    absent = [number for number in fit.elements if number not in table]
    if absent:
        raise ValueError(
            f"element {element_name(absent[0])} of the training molecules has no reference energy "
            "in data.e0; add it, or use --data.e0 average"
        )
    return np.array([table[number] for number in fit.elements], dtype=np.float64)


def element_name(number: int) -> str:
    """Symbol and atomic number of an element, such as ``S (16)``."""
    return f"{chemical_symbols[number]} ({number})"


class CompositionFit:
    """Least-squares energy of every element over many molecules, from running sums.

    Elements that always occur in the same ratio cannot be told apart: of all energies that fit
    equally well, those with the smallest sum of squares are given. Totals of molecules with the
    same ratio are right all the same.

    Args:
        elements: Atomic numbers, ascending.
    """

    def __init__(self, elements: tuple[int, ...]) -> None:
        self.elements = elements
        self._products = np.zeros((len(elements), len(elements)))
        self._targets = np.zeros(len(elements))
        self.used = 0

    def update(self, counts: NDArray[np.float64], energies: NDArray[np.float64]) -> None:
        """Add molecules.

        Args:
            counts: Atoms of every element, float64, shape ``(b, s)``.
            energies: Energies in eV, float64, shape ``(b,)``.
        """
        self._products += counts.T @ counts
        self._targets += counts.T @ energies
        self.used += len(energies)

    def solve(self, known: Mapping[int, float] | None = None) -> NDArray[np.float64]:
        """Energy of every element in eV, float64, shape ``(s,)``; zeros without molecules.

        Args:
            known: Energies that are kept; the other elements are fitted to what they leave.
        """
        fixed = dict(known or {})
        energies = np.array([fixed.get(number, 0.0) for number in self.elements])
        free = np.array([number not in fixed for number in self.elements], dtype=bool)
        if free.any():
            products = self._products[np.ix_(free, free)]
            targets = (self._targets - self._products @ energies)[free]
            energies[free] = np.linalg.pinv(products, rcond=RANK, hermitian=True) @ targets
        return energies

    @property
    def rank(self) -> int:
        """Number of energies that the compositions determine, at most s."""
        values = np.linalg.eigvalsh(self._products)
        return int((values > RANK * values.max(initial=0.0)).sum())
