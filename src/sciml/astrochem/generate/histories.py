"""Histories of gas parcels: density, radiation, extinction and temperature over time.

A history has t steps; its row i holds the conditions that act from time i to time i + 1, in the
order density (H nuclei per cm³), field (Habing), visual extinction (mag), temperature (K).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal import lfilter

from sciml.astrochem.generate.network import Floats

Family = Literal["grav", "collapse", "static", "turbulent", "hotcore", "shock", "csv"]
Random = np.random.Generator
LOWEST, HIGHEST = 2.3, 7.8  # decades of density
COLDEST, WARMEST = 7.5, 130.0  # K, of gas that only its surroundings heat


def draw_history(family: Family, steps: int, rng: Random) -> Floats:
    """Conditions of one parcel of a family.

    Args:
        family: Any but csv, whose histories are read.
        steps: Steps t.
        rng: Random numbers; the same state gives the same history.

    Returns:
        Conditions, shape ``(t, 4)``.
    """
    return FAMILIES[family](steps, rng)


def wander(spread: float, time: float, steps: int, rng: Random) -> Floats:
    """Stationary Ornstein-Uhlenbeck noise.

    Args:
        spread: Standard deviation.
        time: Steps after which the correlation is 1/e.
        steps: Length t.
        rng: Random numbers.

    Returns:
        Noise, shape ``(t,)``.
    """
    kept = np.exp(-1 / time)
    kicks = spread * rng.normal(size=steps)
    kicks[1:] *= np.sqrt(1 - kept**2)
    noise: Floats = lfilter([1.0], [1.0, -kept], kicks)
    return noise


def equilibrium_temperature(density: Floats, light: Floats, extinction: Floats) -> Floats:
    """Temperature of gas heated by light and by compression.

    ``T = 9 + 70 G^0.25 exp(-0.55 Av) + 6 (n/1e6)^0.32``.

    Args:
        density: H nuclei per cm³.
        light: Field in Habing, same shape.
        extinction: Visual extinction in mag, same shape.

    Returns:
        Temperature in K, same shape.
    """
    heated: Floats = 70 * light**0.25 * np.exp(-0.55 * extinction)
    return 9 + heated + 6 * (density / 1e6) ** 0.32


@dataclass(frozen=True, slots=True)
class _Noise:
    """How much a family fluctuates: ranges of standard deviations in decades.

    Args:
        density: Of the density.
        light: Of the field.
        depth: Of the factor in the extinction.
        temperature: Of the temperature, one number.
    """

    density: tuple[float, float]
    light: tuple[float, float]
    depth: tuple[float, float]
    temperature: float


CALM = _Noise((0.01, 0.05), (0.02, 0.08), (0.02, 0.06), 0.012)
ROUGH = _Noise((0.03, 0.12), (0.05, 0.2), (0.05, 0.15), 0.03)


def _surroundings(
    density: Floats, brightness: tuple[float, float], noise: _Noise, rng: Random
) -> Floats:
    """Field, extinction and temperature that go with a density; shape ``(t, 4)``."""
    steps = len(density)
    light = 10 ** (
        rng.uniform(*brightness) + wander(rng.uniform(*noise.light), rng.uniform(5, 20), steps, rng)
    )
    foreground = rng.uniform(0.8, 2.5)
    depth = 10 ** (
        rng.normal(0, 0.1) + wander(rng.uniform(*noise.depth), rng.uniform(4, 12), steps, rng)
    )
    extinction = foreground + 1.9 * np.sqrt(density / 1e4) * depth
    temperature = equilibrium_temperature(density, light, extinction)
    temperature *= 10 ** wander(noise.temperature, 8, steps, rng)
    return np.stack([density, light, extinction, temperature.clip(COLDEST, WARMEST)], axis=1)


def _fall(
    steps: int,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    duration: float,
    noise: _Noise,
    rng: Random,
) -> Floats:
    """Decades of density of a parcel in free fall until it is held up.

    ``min(l0 - 2 log10(1 - u²), l1)`` with ``u = t/duration``; the plateau oscillates by 0.1.
    """
    time = np.arange(steps)
    first, last = rng.uniform(*start), rng.uniform(*end)
    progress = np.minimum(time / duration, 0.9999)
    falling = first - 2 * np.log10(1 - progress**2)
    swing = 0.1 * np.sin((time - duration) / rng.uniform(5, 12))
    decades = np.where(falling < last, falling, last + swing)
    smooth = uniform_filter1d(decades, 5, mode="nearest")
    noisy: Floats = smooth + wander(rng.uniform(*noise.density), rng.uniform(5, 15), steps, rng)
    return noisy.clip(LOWEST, HIGHEST)


def _grav(steps: int, rng: Random) -> Floats:
    duration = rng.uniform(55, 105 if steps <= 100 else 160)
    decades = _fall(steps, (2.8, 3.6), (5.5, 7.2), duration=duration, noise=CALM, rng=rng)
    return _surroundings(10**decades, (-0.3, 0.5), CALM, rng)


def _collapse(steps: int, rng: Random) -> Floats:
    """A broader grav: thinner and denser, darker and brighter, faster and slower, rougher."""
    duration = rng.uniform(0.35, 1.25) * steps
    decades = _fall(steps, (2, 4.3), (5, 7.5), duration=duration, noise=ROUGH, rng=rng)
    return _surroundings(10**decades, (-1, 1.5), ROUGH, rng)


def _static(steps: int, rng: Random) -> Floats:
    """Conditions that never change: decades of density from U(2.8, 7.2), the rest as in grav."""
    still = _Noise((0, 0), (0, 0), (0, 0), 0)
    return _surroundings(np.full(steps, 10 ** rng.uniform(2.8, 7.2)), (-0.3, 0.5), still, rng)


def _turbulent(steps: int, rng: Random) -> Floats:
    """Three sinusoids in the decades of density, without a trend."""
    time = np.arange(steps)[:, None]
    size, period = rng.uniform(0.2, 0.8, size=3), rng.uniform(15, 80, size=3)
    phase = rng.uniform(0, 2 * np.pi, size=3)
    waves = (size * np.sin(2 * np.pi * time / period + phase)).sum(1)
    decades = (rng.uniform(3.5, 5.5) + waves).clip(LOWEST, HIGHEST)
    return _surroundings(10**decades, (-0.3, 0.5), CALM, rng)


def _hotcore(steps: int, rng: Random) -> Floats:
    """A collapse that ends when a star lights up and warms gas of fixed density.

    The star lights up at U(0.5, 0.7) of the history, the fall takes U(0.6, 0.95) of that; then
    ``T = T_on + (T_max - T_on) r^1.5`` with r from 0 to 1 and T_max from U(95, 145) K.
    """
    lit = min(round(rng.uniform(0.5, 0.7) * steps), steps - 1)
    duration = max(rng.uniform(0.6, 0.95) * lit, 1.0)
    decades = _fall(steps, (2.8, 3.6), (5.5, 7.2), duration=duration, noise=CALM, rng=rng)
    decades[lit:] = decades[lit]
    history = _surroundings(10**decades, (-0.3, 0.5), CALM, rng)
    progress = np.linspace(0, 1, steps - lit) ** 1.5
    start = history[lit, 3]
    history[lit:, 3] = start + (rng.uniform(95, 145) - start) * progress
    return history


def _shock(steps: int, rng: Random) -> Floats:
    """One or two compressions of quiet gas, each with a spike of temperature.

    The density starts at 10^U(3, 5) and grows by U(4, 10) at each shock, at a time from U(0.1, 0.9)
    of the history; ``U(150, 600) exp(-(t - t_shock)/U(1.5, 5))`` K are added to the temperature.
    """
    time = np.arange(steps)
    decades = rng.uniform(3, 5) + wander(rng.uniform(0.01, 0.05), rng.uniform(5, 15), steps, rng)
    heat = np.zeros(steps)
    for _ in range(rng.integers(1, 3)):  # one or two
        since = time - np.floor(rng.uniform(0.1, 0.9) * steps)
        decades += np.where(since >= 0, np.log10(rng.uniform(4, 10)), 0.0)
        cooling = np.exp(-np.maximum(since, 0) / rng.uniform(1.5, 5))
        heat += np.where(since >= 0, rng.uniform(150, 600) * cooling, 0.0)
    history = _surroundings(10 ** decades.clip(LOWEST, HIGHEST), (-0.3, 0.5), CALM, rng)
    history[:, 3] += heat
    return history


FAMILIES: dict[str, Callable[[int, Random], Floats]] = {
    "grav": _grav,
    "collapse": _collapse,
    "static": _static,
    "turbulent": _turbulent,
    "hotcore": _hotcore,
    "shock": _shock,
}
