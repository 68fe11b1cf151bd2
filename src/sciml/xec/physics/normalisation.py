"""Readings of sensors as numbers for a network, and back (any shape, numpy or torch).

Nothing here changes the type of an array: float32 stays float32.
"""

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

from sciml.xec.physics.arrays import Array, library
from sciml.xec.physics.constants import INVALID_FROM

Scheme = Literal["log1p", "sqrt", "anscombe", "linear", "signed_sqrt"]
ANSCOMBE = 3 / 8  # F. J. Anscombe, Biometrika 35, 246 (1948)


@dataclass(frozen=True)
class Normalisation:
    """How photon counts n and relative times t become numbers of order 1.

    Counts: log1p ``ln(1 + n/s1)/s2``; sqrt ``√n/√s1``; anscombe ``√(n + 3/8)/√(s1 + 3/8)``;
    linear ``n/s1``; signed_sqrt ``sgn(n) √|n|/√s1``. Times: ``t/time_scale - time_shift``.

    Args:
        scheme: Formula of the counts.
        npho_scale: s1 in photons.
        npho_scale2: s2, of log1p only.
        npho_threshold: Photons a sensor needs for its time to count.
        time_scale: s.
        time_shift: Subtracted after the division.
        sentinel_npho: What stands for a count that is not there.
        sentinel_time: What stands for a time that is not there.

    Raises:
        ValueError: If a scale is not positive, or the scheme is unknown.
    """

    scheme: Scheme = "signed_sqrt"
    npho_scale: float = 20000.0
    npho_scale2: float = 1.0
    npho_threshold: float = 10.0
    time_scale: float = 1e-8
    time_shift: float = 0.0
    sentinel_npho: float = 0.0
    sentinel_time: float = 0.0

    def __post_init__(self) -> None:
        if self.scheme not in get_args(Scheme):
            raise ValueError(f"no scheme '{self.scheme}'; use {', '.join(get_args(Scheme))}")
        for name in ("npho_scale", "npho_scale2", "time_scale"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}; give a positive number")
        if self.time_scale > 1:
            raise ValueError(
                f"time_scale is {self.time_scale:g} s, longer than any event; where old notes say "
                "6.5e8 they mean 6.5e-8"
            )

    def is_alive(self, npho: Array) -> Array:
        """Whether there is a count.

        Args:
            npho: Photons.

        Returns:
            bool, same shape.
        """
        return cast(Array, library(npho).isfinite(npho) & (npho <= INVALID_FROM))

    def has_time(self, npho: Array, time: Array) -> Array:
        """Whether there is a time that counts.

        Args:
            npho: Photons.
            time: s, same shape.

        Returns:
            bool, same shape.
        """
        there = library(time).isfinite(time) & (abs(time) <= INVALID_FROM)
        return cast(Array, there & self.is_alive(npho) & (npho >= self.npho_threshold))

    def npho(self, raw: Array) -> Array:
        """Normalised counts; 0 below the domain of the formula, the sentinel where there is none.

        Args:
            raw: Photons.

        Returns:
            Same shape and type.
        """
        xp = library(raw)
        alive = self.is_alive(raw)
        known = alive & (raw >= self._lowest())
        value = self._scaled(xp.where(known, raw, xp.zeros_like(raw)))
        value = xp.where(known, value, xp.zeros_like(raw))
        return cast(Array, xp.where(alive, value, xp.full_like(raw, self.sentinel_npho)))

    def inverse_npho(self, value: Array) -> Array:
        """Photons of normalised counts; a sentinel is not told apart from a count.

        Args:
            value: Normalised; a negative one counts as 0 where the formula gives none.

        Returns:
            Same shape and type.
        """
        xp = library(value)
        if self.scheme == "log1p":
            return cast(Array, self.npho_scale * xp.expm1(value * self.npho_scale2))
        if self.scheme == "linear":
            return value * self.npho_scale
        if self.scheme == "signed_sqrt":
            return self.npho_scale * value * abs(value)
        root = xp.clip(value, 0, None)
        if self.scheme == "sqrt":
            return cast(Array, self.npho_scale * root * root)
        return cast(Array, (self.npho_scale + ANSCOMBE) * root * root - ANSCOMBE)

    def time(self, npho: Array, time: Array) -> Array:
        """Normalised times; the sentinel where there is none that counts.

        Args:
            npho: Photons.
            time: s, relative to the time of the event, same shape.

        Returns:
            Same shape and type.
        """
        xp = library(time)
        there = self.has_time(npho, time)
        value = xp.where(there, time, xp.zeros_like(time)) / self.time_scale - self.time_shift
        return cast(Array, xp.where(there, value, xp.full_like(time, self.sentinel_time)))

    def inverse_time(self, value: Array) -> Array:
        """Times in s of normalised ones; a sentinel is not told apart from a time.

        Args:
            value: Normalised.

        Returns:
            Same shape and type.
        """
        return (value + self.time_shift) * self.time_scale

    def digest(self) -> str:
        """SHA-256 of all that has an effect, to recognise the same normalisation by."""
        settings = {
            key: value if key == "scheme" else float(value)
            for key, value in dataclasses.asdict(self).items()
            if key != "npho_scale2" or self.scheme == "log1p"
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def _lowest(self) -> float:
        """Smallest count in the domain of the formula."""
        lowest = {"log1p": -0.999 * self.npho_scale, "sqrt": 0.0, "anscombe": -ANSCOMBE}
        return lowest.get(self.scheme, -math.inf)

    def _scaled(self, npho: Array) -> Array:
        xp = library(npho)
        if self.scheme == "log1p":
            return cast(Array, xp.log1p(npho / self.npho_scale) / self.npho_scale2)
        if self.scheme == "linear":
            return npho / self.npho_scale
        if self.scheme == "signed_sqrt":
            return cast(Array, xp.sign(npho) * xp.sqrt(abs(npho) / self.npho_scale))
        shift = ANSCOMBE if self.scheme == "anscombe" else 0.0
        return cast(Array, xp.sqrt((npho + shift) / (self.npho_scale + shift)))


LEGACY = Normalisation("log1p", 0.58, 1.0, 100.0, 6.5e-8, 0.5, -1.0, -1.0)
PRESETS = {
    "legacy": LEGACY,
    "legacy5": dataclasses.replace(LEGACY, sentinel_npho=-5.0, sentinel_time=-5.0),
    "mae": Normalisation("log1p", 1000.0, 4.08, 100.0, 1.14e-7, -0.46, -1.0, -1.0),
    "tuned": Normalisation("sqrt", 20000.0, 1.0, 100.0, 1.14e-7, -0.46, -1.0, -1.0),
    "v2": Normalisation(),
}
"""Named settings: those of older checkpoints, and that of new networks, v2."""
