"""Spaces in which networks are trained: a quantity itself, or its logarithm."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Space:
    """For every component of a quantity y, y itself or ``ln(y + offset)``.

    Args:
        offsets: One for each component; None for the component itself.
    """

    offsets: Sequence[float | None]

    def enter(self, value: Tensor) -> Tensor:
        """Physical values as the network is trained on them.

        Args:
            value: ``(b, k)``; values at which the logarithm ends count as 1e-6 more.

        Returns:
            Same shape.
        """
        columns = [
            column if offset is None else (column + offset).clamp(min=1e-6).log()
            for column, offset in zip(value.unbind(-1), self.offsets, strict=True)
        ]
        return torch.stack(columns, -1)

    def leave(self, mean: Tensor, log_variance: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Physical values and their standard deviations.

        Args:
            mean: In this space, ``(b, k)``.
            log_variance: Logarithms of the variances in it, ``(b, k)``.

        Returns:
            Two tensors ``(b, k)``, the second None without variances; to first order where the
            space is a logarithm.
        """
        values, slopes = [], []
        for column, offset in zip(mean.unbind(-1), self.offsets, strict=True):
            values.append(column if offset is None else column.exp() - offset)
            slopes.append(torch.ones_like(column) if offset is None else column.exp())
        value, slope = torch.stack(values, -1), torch.stack(slopes, -1)
        return value, None if log_variance is None else slope * (0.5 * log_variance).exp()
