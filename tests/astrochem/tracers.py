"""Small tables of tracers that obey the conservation laws unless told otherwise."""

from collections.abc import Sequence

import numpy as np

from sciml.astrochem.data.table import TracerTable, make_table

SPECIES = ("#CO", "C", "C+", "CO", "E-", "H", "H2", "O")
STEP = 1e4  # yr


def history(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Values ``(rows, 12)`` and times of one tracer: C+ recombines, CO forms and freezes out."""
    rng = np.random.default_rng((rows, seed))
    time = STEP * np.arange(rows)
    rate = rng.uniform(0.5, 2.0, 4)
    share = time / time[-1] if rows > 1 else time
    carbon, oxygen = 1.77e-4, 3.34e-4
    ion = carbon * np.exp(-6 * rate[0] * share) + 1e-9
    co = (carbon + 1e-9 - ion) * (1 - np.exp(-3 * rate[1] * share)) + 1e-12
    ice = co * (1 - np.exp(-2 * rate[2] * share)) + 1e-20
    atom = carbon + 1e-8 - ion - co
    h2 = 0.25 + 0.2 * (1 - np.exp(-4 * rate[3] * share))
    own = (ice, atom, ion, co - ice, ion, 1 - 2 * h2, h2, oxygen - co)
    density = 1e3 * np.exp(4 * rate[1] * share)
    field = 10 ** rng.uniform(-0.3, 0.5) * np.ones(rows)
    visual = 1.5 * np.sqrt(density / 1e3)
    temperature = 10 + 30 * np.exp(-visual / 5)
    physics = np.stack([density, field, visual, temperature], 1)
    if rows > 1:
        physics[-1] = physics[-2]
    return np.concatenate([physics, np.stack(own, 1)], 1), time


def sample_table(
    lengths: Sequence[int] = (5, 7, 4), seed: int = 0, numbers: Sequence[int] | None = None
) -> TracerTable:
    """Tracers of the given lengths."""
    parts = [history(rows, seed + place) for place, rows in enumerate(lengths)]
    values = np.concatenate([values for values, _ in parts] or [np.zeros((0, 12))])
    time = np.concatenate([time for _, time in parts] or [np.zeros(0)])
    return make_table(values, time, lengths, SPECIES, numbers=numbers)
