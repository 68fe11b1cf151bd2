"""Quantiles of positive numbers over many decades, from counts that merge."""

from collections.abc import Sequence

import torch
from torch import Tensor

LEAST = -10.0  # log10 of the smallest number told from zero
MOST = 21.0  # log10 of the largest
PER_DECADE = 100  # bins: a quantile is known to 0.01 dex


class LogHistogram:
    """Counts of log10 of positive numbers in bins of 0.01 dex from 1e-10 to 1e21.

    The first bin holds whatever is smaller, zero too, the last whatever is larger.
    """

    def __len__(self) -> int:
        return int((MOST - LEAST) * PER_DECADE)

    def count(self, values: Tensor) -> Tensor:
        """Numbers in every bin, float64 ``(bins,)``.

        Args:
            values: Numbers of at least 0, any shape.
        """
        place = (values.flatten().log10().clamp(LEAST, MOST) - LEAST) * PER_DECADE
        slots = place.long().clamp(0, len(self) - 1)
        return torch.bincount(slots, minlength=len(self)).double()

    def quantiles(self, counts: Tensor, shares: Sequence[float]) -> Tensor:
        """Numbers below which the given shares lie, NaN without counts, float64 ``(shares,)``.

        Inside a bin the logarithm is interpolated linearly; the first bin stands for 0.

        Args:
            counts: Sum of what `count` returned.
            shares: Between 0 and 1.
        """
        total = counts.sum()
        wanted = torch.tensor(list(shares), dtype=counts.dtype, device=counts.device) * total
        rising = counts.cumsum(0)
        slot = torch.searchsorted(rising, wanted).clamp(max=len(self) - 1)
        part = (wanted - (rising[slot] - counts[slot])) / counts[slot].clamp(min=1)
        value = 10.0 ** (LEAST + (slot + part) / PER_DECADE)
        value = torch.where(slot == 0, torch.zeros_like(value), value)
        return torch.where(total > 0, value, torch.full_like(value, torch.nan))
