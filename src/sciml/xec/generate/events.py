"""Events with what happened and what the sensors say, as arrays by the names of the branches."""

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sciml.xec.generate.light import YIELD_SPREAD, LightModel, expected_light
from sciml.xec.generate.sensors import (
    Calibration,
    Record,
    calibrate,
    coarse_counts,
    earliest,
    relative_times,
    respond,
)
from sciml.xec.generate.settings import Settings
from sciml.xec.generate.shower import Gamma, draw_gamma, pileup_energy, spectrum_of
from sciml.xec.physics.constants import INVALID, SENSORS
from sciml.xec.physics.coordinates import emission_angles, to_uvw

Arrays = dict[str, NDArray[Any]]
Floats = NDArray[np.floating]

BRANCHES: dict[str, tuple[str, tuple[int, ...]]] = {
    "npho": ("f4", (SENSORS,)),
    "relative_time": ("f4", (SENSORS,)),
    "energyTruth": ("f4", ()),
    "energyGamma": ("f4", ()),
    "timeTruth": ("f4", ()),
    "uvwTruth": ("f4", (3,)),
    "xyzTruth": ("f4", (3,)),
    "xyzVTX": ("f4", (3,)),
    "emiVec": ("f4", (3,)),
    "emiAng": ("f4", (2,)),
    "npho_max_used": ("f4", ()),
    "time_min_used": ("f4", ()),
    "run": ("i4", ()),
    "event": ("i4", ()),
    "nGamma": ("i4", ()),
    "ch_npho_max": ("i2", ()),
    "ch_time_min": ("i2", ()),
}
"""Type and shape an event of every branch, in the order of the files."""

EMISSION = (-615.0, -585.0)  # ns, emission time
EVENT_JITTER = 0.04  # ns, common to the times of an event
PILEUP_WINDOW = 60.0  # ns, largest distance of a second gamma
COMPARABLE = 0.2  # share of a channel's light from which the weaker gamma counts for its time


def simulate(events: int, settings: Settings, seed: int, *, first: int = 0, run: int = 0) -> Arrays:
    """Make events.

    An event follows from the settings, the seed and its number alone, whatever is made with it.

    Args:
        events: How many.
        settings: Of gammas and detector.
        seed: Of the random numbers, 0 or more.
        first: Number of the first event.
        run: Number of the run.

    Returns:
        Array of every branch of `BRANCHES`, ``(b,)`` with the shape of the branch behind. Energies
        in GeV, lengths in cm, angles in degrees, ``timeTruth`` in ns, times of channels in s.
    """
    calibration, model = calibrate(settings.detector), LightModel()
    arrays = {name: np.empty((events, *shape), kind) for name, (kind, shape) in BRANCHES.items()}
    arrays["run"][:] = run
    arrays["event"][:] = np.arange(first, first + events)
    # one at a time: the arrays of a single event just fit into the cache of a core
    for place in range(events):
        rng = np.random.default_rng([seed, first + place])
        for name, value in _event(settings, calibration, model, rng).items():
            arrays[name][place] = value
    return arrays


def _event(
    settings: Settings, calibration: Calibration, model: LightModel, rng: Generator
) -> dict[str, Any]:
    beam = settings.beam
    gamma = draw_gamma(rng, beam.vertex, spectrum_of(beam.spectrum))
    light, late = _arrivals(gamma, model, rng)
    pileup = rng.random() < beam.pileup
    if pileup:
        second = draw_gamma(rng, beam.vertex, pileup_energy)
        other, when = _arrivals(second, model, rng)
        shift = rng.uniform(-PILEUP_WINDOW, PILEUP_WINDOW)
        light, late = _overlay((light, late), (other, when + shift))
    emission = rng.uniform(*EMISSION)
    start = emission + EVENT_JITTER * rng.standard_normal()
    record = respond(light, start + late, calibration, rng)
    truth = _truth(gamma) | {"timeTruth": emission, "nGamma": 1 + pileup}
    return truth | _readings(record, calibration)


def _arrivals(gamma: Gamma, model: LightModel, rng: Generator) -> tuple[Floats, Floats]:
    """Expected photons of a gamma and their times after its emission."""
    light, late = expected_light(gamma, model, 1 + YIELD_SPREAD * rng.standard_normal())
    return light, late.astype(np.float64) + gamma.flight


def _overlay(first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Light of two gammas; a channel has the time of the stronger, or the earlier of equals."""
    (light, late), (other, when) = first, second
    total = light + other
    strongest = np.where(light >= other, late, when)
    equal = np.minimum(light, other) > COMPARABLE * total
    return total, np.where(equal, np.minimum(late, when), strongest)


def _truth(gamma: Gamma) -> dict[str, Any]:
    step = gamma.interaction - gamma.vertex
    direction = step / np.sqrt((step**2).sum())
    return {
        "energyTruth": gamma.deposited / 1e3,
        "energyGamma": gamma.energy / 1e3,
        "uvwTruth": to_uvw(gamma.interaction),
        "xyzTruth": gamma.interaction,
        "xyzVTX": gamma.vertex,
        "emiVec": direction,
        "emiAng": emission_angles(direction),
    }


def _readings(record: Record, calibration: Calibration) -> dict[str, Any]:
    strongest = int(np.where(calibration.dead, -np.inf, record.npho).argmax())
    first = earliest(record)
    start = INVALID * 1e9 if first is None else float(record.time[first])
    return {
        "npho": coarse_counts(record.npho),
        "relative_time": relative_times(record.time, start),
        "npho_max_used": record.npho[strongest],
        "ch_npho_max": strongest,
        "time_min_used": 1e-9 * start,
        "ch_time_min": -1 if first is None else first,
    }
