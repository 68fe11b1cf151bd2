"""Curves fitted to errors and to resolutions; a fit that fails says why (n events).

Widths and places are in the unit of the errors. No fit raises: without a result its numbers are
NaN and its ``fault`` is a sentence.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls
from scipy.special import ndtr

from sciml.xec.report.resolution import RESAMPLES, SEED, Bin, spread

Floats = NDArray[np.float64]
LEAST = 50  # events that a distribution is fitted to
LEAST_BINS = 4
CORE = 2.0  # half-widths around the median that the core is fitted in
TAIL = (6.0, 3.0)  # half-widths below and above it, with the tail
WIDE = 10.0  # half-widths, beyond which a core has no width
NO_TAIL = math.log(1e3)  # of the widths after which a core alone would have its tail
STEP = 1e-3  # of the second derivatives, in half-widths


@dataclass(frozen=True)
class Fit:
    """What a curve was found to be.

    Args:
        name: Of the curve.
        parameters: Names.
        values: Of the parameters.
        errors: Standard errors, NaN where there is none.
        events: That it was fitted to; of a curve through points, how many points.
        fault: Why there is no result, else empty.
        window: Least and largest error that was used.
    """

    name: str
    parameters: tuple[str, ...]
    values: tuple[float, ...]
    errors: tuple[float, ...]
    events: int
    fault: str = ""
    window: tuple[float, float] = (-math.inf, math.inf)

    @property
    def succeeded(self) -> bool:
        """Whether there are values."""
        return not self.fault

    def __getitem__(self, parameter: str) -> float:
        return self.values[self.parameters.index(parameter)]

    def error(self, parameter: str) -> float:
        """Standard error of a parameter.

        Args:
            parameter: Its name.
        """
        return self.errors[self.parameters.index(parameter)]


def fit_core(errors: Floats) -> Fit:
    """Normal distribution of the core, within two half-widths of the median.

    The likelihood of the single events is that of a distribution cut off at the window.

    Args:
        errors: ``(n,)``; NaN are left out.
    """
    names = ("mean", "sigma")

    def likelihood(p: Floats, x: Floats, low: float, high: float) -> Floats:
        return _tailed(np.append(p, p[1] + NO_TAIL), x, low, high)

    limits = [(-CORE, CORE), (math.log(0.05), math.log(WIDE))]
    return _fit("core", names, likelihood, errors, (CORE, CORE), [0.0, 0.0], limits)


def fit_tailed(errors: Floats) -> Fit:
    """Normal distribution that turns into an exponential tail to the left (ExpGaus).

    ``exp(-(x - mean)^2 / 2 sigma^2)`` right of ``mean - tail``, and left of it the exponential with
    the same value and slope there. A tail that begins at the end of the window is not seen, and has
    no error.

    Args:
        errors: ``(n,)``; NaN are left out.
    """
    limits = [(-CORE, CORE), (math.log(0.05), math.log(WIDE)), (math.log(0.05), math.log(TAIL[0]))]
    names = ("mean", "sigma", "tail")
    return _fit("ExpGaus", names, _tailed, errors, TAIL, [0.0, -0.2, 0.2], limits)


def tailed_density(x: Floats, fit: Fit) -> Floats:
    """Probability density of a fitted curve inside its window.

    Args:
        x: Errors, any shape.
        fit: Of `fit_core` or `fit_tailed`.
    """
    low, high = fit.window
    width = math.log(fit["sigma"])
    tail = math.log(fit["tail"]) if "tail" in fit.parameters else width + NO_TAIL
    p = np.array([fit["mean"], width, tail])
    return np.asarray(np.exp(_tailed(p, x, low, high)))


def fit_law(bins: Sequence[Bin]) -> Fit:
    """Relative energy resolution ``sqrt(a^2 / E + b^2 + c^2 / E^2)``.

    The squares of the parameters enter linearly and are never negative, so that there is one best
    answer. Errors are the spread over points moved by their errors.

    Args:
        bins: Widths in % against the energy in GeV.

    Returns:
        a in % √GeV, b in %, c in % GeV, and chi2 over the degrees of freedom.
    """
    names = ("a", "b", "c", "chi2/ndf")
    usable = [one for one in bins if one.spread.width_error > 0 and one.spread.width > 0]
    if len(usable) < LEAST_BINS:
        fault = f"{len(usable)} of at least {LEAST_BINS} energy bins"
        return _failed("sigma/E", names, len(usable), fault)
    energy = np.array([one.middle for one in usable])
    width, error = (np.array([getattr(one.spread, n) for one in usable]) for n in WIDTHS)
    shape = np.stack([1 / energy, np.ones_like(energy), 1 / energy**2], 1)
    weight = 1 / (2 * width * error)  # of the squares
    moved = np.random.default_rng(SEED).normal(width, error, (RESAMPLES, len(width)))
    solved = [  # nnls takes one set of points at a time
        np.sqrt(nnls(shape * weight[:, None], one**2 * weight)[0]) for one in (width, *moved)
    ]
    best, again = solved[0], np.array(solved[1:])
    gap = (np.sqrt(shape @ best**2) - width) / error
    chi2 = float(gap @ gap) / (len(usable) - np.count_nonzero(best))
    values, spreads = (*map(float, best), chi2), (*map(float, again.std(0)), math.nan)
    return Fit("sigma/E", names, values, spreads, len(usable))


WIDTHS = ("width", "width_error")


def law(energy: Floats, fit: Fit) -> Floats:
    """Relative resolution in % of a fitted law.

    Args:
        energy: GeV, any shape.
        fit: Of `fit_law`.
    """
    return np.asarray(np.sqrt(fit["a"] ** 2 / energy + fit["b"] ** 2 + (fit["c"] / energy) ** 2))


def _tailed(p: Floats, x: Floats, low: float, high: float) -> Floats:
    """Logarithm of the density; parameters are mean, ln sigma and ln tail."""
    width = math.exp(p[1])
    tail = math.exp(p[2] - p[1])  # in widths
    pull, ends = (x - p[0]) / width, [(end - p[0]) / width for end in (low, high)]
    logarithm = np.where(pull > -tail, -0.5 * pull**2, tail * (0.5 * tail + pull))
    core = ndtr(ends[1]) - ndtr(max(ends[0], -tail))
    norm = math.sqrt(2 * math.pi) * core
    if ends[0] < -tail:
        norm += (math.exp(-0.5 * tail**2) - math.exp(tail * (0.5 * tail + ends[0]))) / tail
    return np.asarray(logarithm - math.log(max(width * norm, 1e-300)))


Likelihood = Callable[[Floats, Floats, float, float], Floats]


def _fit(
    name: str,
    parameters: tuple[str, ...],
    likelihood: Likelihood,
    errors: Floats,
    window: tuple[float, float],
    start: list[float],
    limits: list[tuple[float, float]],
) -> Fit:
    """Maximum of a likelihood, in units of the half-width around the median."""
    known = errors[np.isfinite(errors)]
    about = spread(known)
    if len(known) < LEAST or not about.width > 0:
        fault = f"{len(known)} events are too few" if len(known) < LEAST else "all are equal"
        return _failed(name, parameters, len(known), fault)
    scaled = (known - about.bias) / about.width
    used = scaled[(scaled > -window[0]) & (scaled < window[1])]

    def objective(p: Floats) -> float:
        return -float(likelihood(p, used, -window[0], window[1]).sum())

    found = minimize(objective, start, method="L-BFGS-B", bounds=limits)
    if not found.success or found.x[1] > limits[1][1] - STEP or found.x[1] < limits[1][0] + STEP:
        reason = "the width has no limit" if found.success else "no maximum of the likelihood"
        return _failed(name, parameters, len(used), reason)
    at_end = [bool(min(x - a, b - x) < STEP) for x, (a, b) in zip(found.x, limits, strict=True)]
    errors_of = _errors(objective, found.x, np.flatnonzero(~np.array(at_end)))
    scales = about.width * np.append(1.0, np.exp(found.x[1:]))  # units of mean, ln sigma, ln tail
    values = scales.copy()
    values[0] = about.bias + about.width * found.x[0]
    ends = (about.bias - window[0] * about.width, about.bias + window[1] * about.width)
    spreads = scales * errors_of
    return Fit(name, parameters, (*values.tolist(),), (*spreads.tolist(),), len(used), window=ends)


def _errors(objective: Callable[[Floats], float], best: Floats, free: NDArray[np.intp]) -> Floats:
    """Standard errors from the second derivatives; NaN of parameters at an end of their range."""
    steps = STEP * np.eye(len(best))[free]

    def change(i: int, j: int) -> float:
        corners = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
        parts = [a * b * objective(best + a * steps[i] + b * steps[j]) for a, b in corners]
        return sum(parts) / (4 * STEP**2)

    count = range(len(free))
    matrix = np.array([[change(i, j) for j in count] for i in count])
    errors = np.full(len(best), np.nan)
    if len(free) and np.linalg.eigvalsh(matrix).min() > 0:
        errors[free] = np.sqrt(np.diag(np.linalg.inv(matrix)))
    return errors


def _failed(name: str, parameters: tuple[str, ...], events: int, fault: str) -> Fit:
    missing = (math.nan,) * len(parameters)
    return Fit(name, parameters, missing, missing, events, fault)
