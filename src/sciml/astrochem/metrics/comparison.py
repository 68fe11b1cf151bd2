"""Comparisons of two sets of numbers: paired bootstrap and separation."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean and its 95 % interval.

    Args:
        mean: Mean of the sample.
        low: 2.5 % quantile of the means of the redrawn samples.
        high: 97.5 % quantile.
    """

    mean: float
    low: float
    high: float


def paired_bootstrap(first: Array, second: Array, draws: int = 10_000, seed: int = 0) -> Interval:
    """Mean difference of two models on the same tracers and its 95 % interval.

    Tracers are redrawn with replacement, always as pairs; the interval is that of percentiles.

    Args:
        first: Error of every tracer, ``(b,)``.
        second: Error of another model of the same tracers, ``(b,)``.
        draws: Redrawn samples.
        seed: Seed of the draws.

    Returns:
        ``first - second``: below 0 where the first is better.

    Source:
        B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(difference), size=(draws, len(difference)))
    low, high = np.quantile(difference[chosen].mean(1), [0.025, 0.975])
    return Interval(float(difference.mean()), float(low), float(high))


def separation(inside: Array, outside: Array) -> float:
    """Area under the ROC curve of a score that should be larger outside.

    The chance that a random outsider scores higher than a random insider, ties counted half.

    Args:
        inside: Scores of tracers of the training family, ``(n,)``.
        outside: Scores of others, ``(m,)``.

    Returns:
        0.5 for no separation, 1 for a perfect one.

    Source:
        H. B. Mann and D. R. Whitney, Ann. Math. Stat. 18 (1947) 50.
    """
    ranks = rankdata(np.concatenate([inside, outside]))
    upper = ranks[len(inside) :].sum() - len(outside) * (len(outside) + 1) / 2
    return float(upper / (len(inside) * len(outside)))
