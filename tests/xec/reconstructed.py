"""Columns of reconstructed gammas with errors of known widths."""

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[np.float64]]
WIDTHS = {"u": 0.3, "v": 0.2, "w": 0.5, "energy": 0.001, "timing": 0.1}  # cm, GeV, ns
OPENING = 12.0  # degrees, 68 % quantile


def columns(count: int = 3000, seed: int = 0, outside: int = 0) -> Columns:
    """Events with all columns of the task, their errors normal and their uncertainties right.

    Args:
        count: Events in the fiducial volume.
        seed: Of the random numbers.
        outside: Further events beyond it.
    """
    rng = np.random.default_rng(seed)
    size = count + outside
    place = rng.uniform([-23, -67, 0], [23, 67, 20], (size, 3))
    place[count:, 0] = 30.0
    true = {
        **dict(zip(("u", "v", "w"), place.T, strict=True)),
        "energy": rng.uniform(0.015, 0.06, size),
        "timing": rng.uniform(-615, -585, size),
    }
    found: Columns = {"run": np.full(size, 7.0), "event": np.arange(size) + 100.0}
    for name, width in WIDTHS.items():
        sigma = width * rng.uniform(0.7, 1.3, size)
        found[f"true_{name}"] = true[name]
        found[f"pred_{name}"] = true[name] + sigma * rng.normal(size=size)
        found[f"sig_{name}"] = sigma
        found[f"rule_{name}"] = true[name] + 2 * sigma * rng.normal(size=size)
    direction = unit(rng.normal([-2.0, 0.0, 0.0], 1.0, (size, 3)))
    turned = tilted(direction, opening(rng, size), rng)
    worse = tilted(direction, 2 * opening(rng, size), rng)
    for kind, vectors in (("true", direction), ("pred", turned), ("rule", worse)):
        found |= dict(zip((f"{kind}_e{axis}" for axis in "xyz"), vectors.T, strict=True))
    found["sig_direction"] = np.full(size, OPENING)
    return found


def opening(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Opening angles in degrees of a von Mises-Fisher distribution at small angles.

    Args:
        rng: Random numbers.
        size: How many.
    """
    return OPENING * np.sqrt(rng.exponential(size=size) / -np.log1p(-0.68))


def tilted(
    vectors: NDArray[np.float64], angles: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Unit vectors at given angles to others.

    Args:
        vectors: The others, ``(n, 3)``.
        angles: Degrees, ``(n,)``.
        rng: Random numbers for the azimuth.
    """
    across = rng.normal(size=vectors.shape)
    across = unit(across - (across * vectors).sum(1, keepdims=True) * vectors)
    turn = np.radians(angles)[:, None]
    return np.cos(turn) * vectors + np.sin(turn) * across


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors of length 1.

    Args:
        vectors: ``(n, 3)``.
    """
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
