"""Ultraviolet light that H2 and CO keep off themselves."""

import csv

import numpy as np

from sciml.astrochem.generate.network import Floats, asset

COLUMN_PER_AV = 1.6e21  # H nuclei per cm² and magnitude


def h2_factor(column: float) -> float:
    """Share of the dissociating light that a column of H2 lets through.

    ``0.965/(1 + y)² + 0.035/√(1 + y) exp(-8.5e-4 √(1 + y))`` with ``y = N/5e14``.

    Source: Draine & Bertoldi 1996, equation 37 with b = 1 km/s and 5e14 cm⁻².

    Args:
        column: Molecules N of H2 per cm².

    Returns:
        A factor from 0 to 1.
    """
    root = float(np.sqrt(1 + column / 5e14))
    return 0.965 / root**4 + 0.035 / root * float(np.exp(-8.5e-4 * root))


class CarbonMonoxide:
    """Table of the share of the light that columns of H2 and CO let through to CO.

    Source: ``co_shielding.csv`` of the package.
    """

    def __init__(self) -> None:
        lines = asset("co_shielding.csv").read_text(encoding="utf-8").splitlines()
        heading, *rows = csv.reader(line for line in lines if not line.startswith("#"))
        self.co = np.array([float(name.removeprefix("NCO_")) for name in heading[1:]])
        self.h2 = np.array([float(row[0]) for row in rows])
        self.table: Floats = np.array([[float(text) for text in row[1:]] for row in rows])

    def factor(self, h2: float, co: float) -> float:
        """Bilinear in the logarithms, and constant outside the table.

        Args:
            h2: Molecules of H2 per cm².
            co: Molecules of CO per cm².

        Returns:
            A factor from 0 to 1.
        """
        row, down = _cell(self.h2, h2)
        column, right = _cell(self.co, co)
        corners = self.table[row : row + 2, column : column + 2]
        low, high = corners @ np.array([1 - right, right])
        return float(10 ** (low + down * (high - low)))


def _cell(axis: Floats, value: float) -> tuple[int, float]:
    """Cell of an axis that holds the logarithm of a value, and the place in it, from 0 to 1."""
    place = float(np.clip(np.log10(max(value, 1e-300)), axis[0], axis[-1]))
    left = int(np.clip(np.searchsorted(axis, place, side="right") - 1, 0, len(axis) - 2))
    return left, float((place - axis[left]) / (axis[left + 1] - axis[left]))
