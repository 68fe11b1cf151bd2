"""One task of the generator: the chemistry of one tracer along its history.

Letters: t steps, S species.
"""

import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciml.astrochem.generate.backend import Chemistry, StepError, element_drift
from sciml.astrochem.generate.histories import draw_history
from sciml.astrochem.generate.network import Floats
from sciml.astrochem.generate.settings import Settings, open_chemistry
from sciml.astrochem.generate.tables import History

EVOLVED = (4.7, 5.8)  # decades of years before the history of an evolved start
SUBSTEPS = 4


@dataclass(frozen=True, slots=True)
class Job:
    """A tracer and what to compute for it.

    Args:
        number: Its number.
        settings: The same for all tracers.
        history: Its history, None to draw one.
    """

    number: int
    settings: Settings
    history: History | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    """A finished tracer.

    Args:
        time: Years, shape ``(t + 1,)``.
        values: Conditions, then abundances, float32, shape ``(t + 1, 4 + S)``.
        evolved: Whether it started from evolved chemistry.
        cpu: CPU seconds of its steps.
        fallbacks: Steps by the method that had to take them over.
        drift: Largest relative change of an element's total.
        charge: Largest net charge per H nucleus.
    """

    time: Floats
    values: NDArray[np.float32]
    evolved: bool
    cpu: float
    fallbacks: Counter[str]
    drift: float
    charge: float


def compute_tracer(job: Job, path: Path, seed: int) -> None:
    """Integrate one tracer into a shard.

    History and start draw from generators of their own, so that neither a share of evolved starts
    nor a family changes what the other draws.

    Args:
        job: The tracer.
        path: File of the shard.
        seed: Seed of its random numbers.

    Raises:
        StepError: If a step cannot be integrated.
    """
    settings = job.settings
    history = job.history
    if history is None:
        history = _draw(settings, np.random.default_rng([seed, 0]))
    with open_chemistry(settings) as chemistry:
        rng = np.random.default_rng([seed, 1])
        evolved = bool(rng.uniform() < settings.evolved_fraction)
        x = chemistry.atoms()
        if evolved:
            x = _evolve(chemistry, x, history.conditions[0], 10 ** rng.uniform(*EVOLVED))
        chemistry.fallbacks.clear()
        begin = time.process_time() + chemistry.cpu_seconds()
        rows = _follow(chemistry, x, history)
        cpu = time.process_time() + chemistry.cpu_seconds() - begin
        conditions = np.concatenate([history.conditions, history.conditions[-1:]])
        with path.open("wb") as file:
            np.savez(
                file,
                time=history.time,
                values=np.concatenate([conditions, rows], axis=1).astype(np.float32),
                evolved=evolved,
                cpu=cpu,
                fallbacks=json.dumps(chemistry.fallbacks),
                drift=element_drift(chemistry, rows[0], rows),
                charge=np.abs(rows @ chemistry.charge).max(),
            )


def read_shard(path: Path) -> Shard:
    """Read what `compute_tracer` wrote.

    Args:
        path: File of the shard.
    """
    with np.load(path) as file:
        return Shard(
            file["time"],
            file["values"],
            bool(file["evolved"]),
            float(file["cpu"]),
            Counter(json.loads(str(file["fallbacks"]))),
            float(file["drift"]),
            float(file["charge"]),
        )


def _draw(settings: Settings, rng: np.random.Generator) -> History:
    years: Floats = np.arange(settings.steps + 1, dtype=np.float64) * settings.dt
    return History(years, draw_history(settings.family, settings.steps, rng))


def _evolve(chemistry: Chemistry, x: Floats, conditions: Floats, years: float) -> Floats:
    """Chemistry of a parcel that rested at half its first density."""
    resting = conditions * [0.5, 1, 1, 1]
    for _ in range(SUBSTEPS):
        x = chemistry.advance(x, resting, years / SUBSTEPS)
    return x


def _follow(chemistry: Chemistry, x: Floats, history: History) -> Floats:
    """Abundances at all times, shape ``(t + 1, S)``."""
    rows = [x]
    lengths = np.diff(history.time)
    # each step starts from the end of the one before
    for step, (conditions, dt) in enumerate(zip(history.conditions, lengths, strict=True)):
        try:
            rows.append(chemistry.advance(rows[-1], conditions, float(dt)))
        except StepError as error:
            raise StepError(f"step {step}: {error}") from error
    return np.stack(rows)
