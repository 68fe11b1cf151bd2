"""What stands beside an emulator in its tables and figures (b tracers, t steps, S species)."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciml.astrochem.metrics.baselines import BASELINES, Baseline, gather
from sciml.astrochem.metrics.errors import dex_errors


class Rivals:
    """Baselines fitted to the training tracers; they do not change, so they are measured once."""

    def __init__(self) -> None:
        self.fitted: dict[str, Baseline] = {}
        self.values: dict[str, dict[str, Tensor]] = {}

    def are_due(self, split: str) -> bool:
        """Whether they have not been measured yet.

        Args:
            split: ``val`` or ``test``.
        """
        return split not in self.values

    def fit(self, tables: Iterable[Any] | None, lo: float, hi: float) -> None:
        """Learn from the training tracers.

        Args:
            tables: All of them; None leaves the baselines out that need any.
            lo: Abundance below which nothing is distinguished.
            hi: Abundance above which nothing is distinguished.
        """
        tracers = None if tables is None else gather(tables)
        for name in BASELINES if tracers is not None else ["persistence"]:
            self.fitted[name] = BASELINES[name](lo, hi)
            if tracers is not None:
                self.fitted[name].fit(tracers)

    def rollout(self, start: Tensor, physics: Tensor) -> dict[str, Tensor]:
        """Abundances after every step, by baseline, ``(b, t, S)``.

        Args:
            start: Initial abundances, ``(b, S)``.
            physics: Conditions of the steps in physical units, ``(b, t, 4)``.
        """
        return {
            name: rival.rollout(start.cpu(), physics.cpu()).to(start.device)
            for name, rival in self.fitted.items()
        }


class Curves:
    """Mean error of every tracer and step, for figures.

    Args:
        lo: Abundance below which nothing is distinguished.
        hi: Abundance above which nothing is distinguished.
    """

    def __init__(self, lo: float = 1e-20, hi: float = 1.0) -> None:
        self.lo, self.hi = lo, hi
        self._parts: dict[str, list[Tensor]] = {}

    def add(self, model: str, predicted: Tensor, true: Tensor, valid: Tensor) -> None:
        """Add a batch.

        Args:
            model: Whose prediction it is.
            predicted: Abundances per H nucleus, ``(b, t, S)``.
            true: Same shape.
            valid: Steps that exist, booleans ``(b, t)``.
        """
        error = dex_errors(predicted, true, self.lo, self.hi).abs().mean(-1)
        part = error.where(valid, torch.nan).float().cpu()
        self._parts.setdefault(model, []).append(part)

    def tables(self) -> dict[str, NDArray[np.float64]]:
        """Errors in dex by model, tracers by steps, NaN after the end of a tracer."""
        return {model: stack_curves(parts) for model, parts in self._parts.items()}


def stack_curves(parts: Sequence[Tensor]) -> NDArray[np.float64]:
    """Curves of different lengths in one table, filled with NaN.

    Args:
        parts: Curves of some tracers each, ``(b, t)``.
    """
    longest = max(part.shape[1] for part in parts)
    padded = [
        torch.nn.functional.pad(part, (0, longest - part.shape[1]), value=torch.nan)
        for part in parts
    ]
    table: NDArray[np.float64] = torch.cat(padded).double().numpy()
    return table
