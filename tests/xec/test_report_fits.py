import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sciml.xec.report.fits import Fit, fit_core, fit_law, fit_tailed, law, tailed_density
from sciml.xec.report.resolution import Bin, Spread

Floats = NDArray[np.float64]


def tailed_events(count: int, mean: float, sigma: float, tail: float, seed: int = 0) -> Floats:
    """Events of the curve by inverting its cumulative sum."""
    x = np.linspace(mean - 40 * sigma, mean + 8 * sigma, 400_001)
    core = np.exp(-0.5 * ((x - mean) / sigma) ** 2)
    left = np.exp(tail / sigma**2 * (tail / 2 + x - mean))
    below = np.cumsum(np.where(x > mean - tail, core, np.minimum(left, 1.0)))
    return np.interp(np.random.default_rng(seed).random(count), below / below[-1], x)


def points(energy: Floats, width: Floats, error: float = 0.01) -> list[Bin]:
    pairs = zip(energy.tolist(), width.tolist(), strict=True)
    return [Bin(e - 0.002, e + 0.002, e, Spread(100, 0.0, 0.1, w, error)) for e, w in pairs]


def test_the_core_is_found_below_outliers() -> None:
    rng = np.random.default_rng(0)
    errors = np.concatenate([rng.normal(5, 2, 9000), rng.uniform(-100, 100, 400), [np.nan]])
    fit = fit_core(errors)
    assert fit.succeeded
    assert fit["mean"] == pytest.approx(5, abs=4 * fit.error("mean"))
    assert fit["sigma"] == pytest.approx(2, abs=0.1)
    assert fit.error("mean") == pytest.approx(2 / math.sqrt(9000), rel=0.2)
    low, high = fit.window
    assert fit.events == ((errors > low) & (errors < high)).sum()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_the_tailed_curve_gives_back_its_parameters(scale: float) -> None:
    fit = fit_tailed(scale * tailed_events(20_000, 0.5, 2.0, 1.5))
    for parameter, true in (("mean", 0.5), ("sigma", 2.0), ("tail", 1.5)):
        error = fit.error(parameter)
        assert 0 < error < 0.05 * scale
        assert fit[parameter] == pytest.approx(scale * true, abs=4 * error)


def test_errors_of_the_fit_are_as_large_as_its_scatter() -> None:
    fits = [fit_tailed(tailed_events(1000, 0.0, 1.0, 1.0, seed)) for seed in range(40)]
    for parameter in ("mean", "sigma", "tail"):
        scatter = np.std([fit[parameter] for fit in fits])
        errors = np.median([fit.error(parameter) for fit in fits])
        assert scatter == pytest.approx(errors, rel=0.4)  # 11 % of 40 fits, and some curvature


@pytest.mark.parametrize("curve", [fit_core, fit_tailed])
def test_densities_are_normalised_in_their_window(curve: object) -> None:
    fit = curve(tailed_events(2000, 1.0, 3.0, 2.0))  # type: ignore[operator]
    x = np.linspace(*fit.window, 20_001)
    density = tailed_density(x, fit)
    assert np.trapezoid(density, x) == pytest.approx(1, rel=1e-6)
    assert abs(np.diff(density)).max() < 1e-3 * density.max()  # no step where the curves meet


def test_without_a_tail_the_tailed_curve_is_the_core() -> None:
    fit = fit_tailed(np.random.default_rng(0).normal(1, 2, 4000))
    assert fit["sigma"] == pytest.approx(2, abs=0.1)
    assert fit["tail"] > 2 * fit["sigma"]


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        (np.arange(49.0), "49 events are too few"),
        (np.full(100, 3.0), "all are equal"),
        (np.full(100, np.nan), "0 events are too few"),
    ],
)
def test_a_fit_that_fails_says_why(errors: Floats, reason: str) -> None:
    for fit in (fit_core(errors), fit_tailed(errors)):
        assert not fit.succeeded
        assert fit.fault == reason
        assert np.isnan([*fit.values, *fit.errors]).all()


def test_a_core_that_is_no_peak_has_no_width() -> None:
    errors = np.repeat([-1.95, -1.0, 1.0, 1.95], [150, 350, 350, 150])  # highest at its ends
    assert fit_core(errors).fault == "the width has no limit"


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=0, max_size=80),
    st.integers(1, 4),
)
@settings(max_examples=60)
def test_no_errors_break_a_fit(values: list[float], copies: int) -> None:
    for curve in (fit_core, fit_tailed):
        fit = curve(np.array(values * copies, dtype=np.float64))
        assert isinstance(fit, Fit)
        assert fit.succeeded == bool(np.isfinite(fit.values).all())


def test_the_law_gives_back_its_parameters() -> None:
    energy = np.linspace(0.015, 0.06, 10)
    width = np.sqrt(0.3**2 / energy + 1.5**2 + (0.04 / energy) ** 2)
    fit = fit_law(points(energy, width))
    assert [fit[n] for n in ("a", "b", "c")] == pytest.approx([0.3, 1.5, 0.04], rel=1e-4)
    assert fit["chi2/ndf"] == pytest.approx(0, abs=1e-6)
    assert law(energy, fit) == pytest.approx(width, rel=1e-6)
    assert 0 < fit.error("b") < 0.5


def test_terms_of_the_law_are_never_negative() -> None:
    energy = np.linspace(0.015, 0.06, 8)
    fit = fit_law(points(energy, 1 + 20 * energy))  # grows with energy, which no term does
    assert fit["a"] == fit["c"] == 0
    assert fit["b"] > 0
    assert fit["chi2/ndf"] > 10


def test_errors_of_the_law_are_as_large_as_its_scatter() -> None:
    energy, rng = np.linspace(0.015, 0.06, 9), np.random.default_rng(0)
    width = np.sqrt(0.4**2 / energy + 1.5**2)
    fits = [fit_law(points(energy, rng.normal(width, 0.1), 0.1)) for _ in range(60)]
    scatter = np.std([fit["b"] for fit in fits])
    assert np.median([fit.error("b") for fit in fits]) == pytest.approx(scatter, rel=0.4)


def test_a_law_needs_four_points() -> None:
    energy = np.array([0.02, 0.03, 0.04])
    fit = fit_law(points(energy, energy))
    assert fit.fault == "3 of at least 4 energy bins"
    assert fit_law([]).fault == "0 of at least 4 energy bins"
    flat = points(np.linspace(0.02, 0.05, 5), np.zeros(5))
    assert not fit_law(flat).succeeded
