"""Ranges of the conditions, rounded outwards."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import numpy as np
from numpy.typing import NDArray

DIGITS = 2  # significant figures that are kept


def rounded_ranges(
    low: NDArray[np.float32], high: NDArray[np.float32]
) -> tuple[list[float], list[float]]:
    """Smallest values rounded down and largest ones rounded up to two significant figures.

    Args:
        low: Positive, ``(4,)``.
        high: Positive, ``(4,)``.
    """
    return (
        [_rounded(value, ROUND_FLOOR) for value in low],
        [_rounded(value, ROUND_CEILING) for value in high],
    )


def _rounded(value: np.float32, direction: str) -> float:
    # the shortest decimal of a float32: 1e-4 stays 1e-4, although it is stored a little below
    exact = Decimal(np.format_float_scientific(value))
    return float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - DIGITS + 1), direction))
