"""What sensors make of light: charges, photon counts and hit times."""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sciml.xec.generate.settings import Detector
from sciml.xec.physics.constants import INVALID, PMT_EFFICIENCY, SENSORS, SIPM_EFFICIENCY
from sciml.xec.physics.sensors import sensors

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

EFFICIENCY_SPREAD = 0.07  # relative, from sensor to sensor
OFFSET_SPREAD = 0.05  # ns
EXCESS = (0.35, 0.15)  # F - 1 of SiPMs and PMTs: variance of the charge for each photo-electron
ELECTRONIC = (1.5, 0.6)  # photo-electrons, noise of SiPMs and PMTs
THRESHOLD = 5.0  # photo-electrons, least charge of a hit
WALK = (12.0, 4.0)  # ns: delay of a hit with one photo-electron, and the largest delay
RESOLUTION = (7.0, 0.1)  # ns: spread of a hit with one photo-electron, and of a strong one
TIME_REFERENCE = 50.0  # photo-electrons, above which a hit can be the earliest of an event
COARSE_BELOW = 256  # photons, where counts are even numbers; beyond they keep 8 mantissa bits
TIME_STEP = 0.05  # ns, grid of the stored times


@dataclass(frozen=True, slots=True)
class Calibration:
    """The sensors of one detector.

    Args:
        efficiency: Photo-electrons for each photon ``(4760,)``.
        calibrated: What the calibration says it is ``(4760,)``.
        offset: Of the times in ns ``(4760,)``.
        excess: Variance of the charge for each photo-electron ``(4760,)``.
        electronic: Noise of the charge in photo-electrons ``(4760,)``.
        dead: Channels without a signal, bool ``(4760,)``.
    """

    efficiency: Floats
    calibrated: Floats
    offset: Floats
    excess: Floats
    electronic: Floats
    dead: Flags


@dataclass(frozen=True, slots=True)
class Record:
    """What the sensors say of one event.

    Args:
        npho: Photons, not rounded; `INVALID` where dead ``(4760,)``.
        charge: Photo-electrons ``(4760,)``.
        time: ns, infinite where there is no hit ``(4760,)``.
    """

    npho: Floats
    charge: Floats
    time: Floats


@functools.lru_cache(maxsize=8)
def calibrate(detector: Detector) -> Calibration:
    """The sensors that a calibration seed stands for.

    Args:
        detector: Settings.
    """
    # not the bare seed, which other streams may begin with; the example files have [7, 1]
    rng = np.random.default_rng([detector.calib_seed, 1])
    pmt = sensors().pmt
    spread, error, offset = rng.standard_normal((3, SENSORS))
    efficiency = np.where(pmt, PMT_EFFICIENCY, SIPM_EFFICIENCY) * (1 + EFFICIENCY_SPREAD * spread)
    dead = np.zeros(SENSORS, dtype=np.bool_)
    dead[list(detector.dead)] = True
    return Calibration(
        efficiency=efficiency,
        calibrated=efficiency * (1 + detector.miscal * error),
        offset=OFFSET_SPREAD * offset,
        excess=np.where(pmt, EXCESS[1], EXCESS[0]),
        electronic=detector.noise * np.where(pmt, ELECTRONIC[1], ELECTRONIC[0]),
        dead=dead,
    )


def respond(light: Floats, late: Floats, calibration: Calibration, rng: Generator) -> Record:
    """Signals of the sensors.

    Args:
        light: Expected photons ``(4760,)``.
        late: When they arrive, ns ``(4760,)``.
        calibration: Of the sensors.
        rng: Random numbers.
    """
    electrons = rng.poisson(light * calibration.efficiency)
    noise, jitter = rng.standard_normal((2, SENSORS), dtype=np.float32)
    variance = calibration.excess * electrons + calibration.electronic**2
    charge = electrons + np.sqrt(variance) * noise
    strength = np.maximum(electrons, 1)
    walk = np.minimum(WALK[0] / np.sqrt(strength), WALK[1])
    spread = np.sqrt(RESOLUTION[0] ** 2 / strength + RESOLUTION[1] ** 2)
    time = late + calibration.offset + walk + spread * jitter
    return Record(
        npho=np.where(calibration.dead, INVALID, charge / calibration.calibrated),
        charge=charge,
        time=np.where((charge >= THRESHOLD) & ~calibration.dead, time, np.inf),
    )


def earliest(record: Record) -> int | None:
    """Channel of the earliest hit among those with more than 50 photo-electrons.

    Where there is none, the earliest of all hits; None without hits.

    Args:
        record: Of an event.
    """
    for least in (TIME_REFERENCE, THRESHOLD):
        times = np.where(record.charge > least, record.time, np.inf)
        channel = int(times.argmin())
        if times[channel] < np.inf:
            return channel
    return None


def coarse_counts(npho: Floats) -> NDArray[np.float32]:
    """Counts as files hold them: even below 256 photons, with 8 mantissa bits beyond.

    Args:
        npho: Photons, of any shape; `INVALID` stays.
    """
    exact = np.asarray(npho, dtype=np.float32)
    bits = exact.view(np.uint32) + np.uint32(1 << 14)
    short = (bits & np.uint32(0xFFFF8000)).view(np.float32)
    small = 2 * np.rint(exact / 2)
    rounded = np.where(np.abs(exact) < COARSE_BELOW, small, short)
    return np.where(exact == np.float32(INVALID), exact, rounded).astype(np.float32)


def relative_times(time: Floats, start: float) -> NDArray[np.float32]:
    """Times as files hold them: seconds after a hit, in steps of 50 ps.

    Args:
        time: ns, infinite where there is no hit; any shape.
        start: Time of the hit they are relative to, ns.
    """
    steps = np.rint((time - start) / TIME_STEP)
    return np.where(np.isfinite(time), 1e-9 * TIME_STEP * steps, INVALID).astype(np.float32)
