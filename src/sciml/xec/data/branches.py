"""What the branches of a file mean: other names, shapes, units, and values that are none.

Shapes: b events, 4760 sensors.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sciml.xec.physics.constants import (
    INNER,
    INVALID,
    INVALID_FROM,
    PMT_EFFICIENCY,
    SENSORS,
    SIPM_EFFICIENCY,
)
from sciml.xec.physics.coordinates import emission_direction, to_uvw

Floats = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]

ALIASES = {
    "npho": ("npho", "relative_npho"),
    "relative_time": ("relative_time", "time"),
    "time_min": ("time_min_used",),
    "run": ("run",),
    "event": ("event",),
    "direction": ("emiVec", "emiAng", "angleVec"),
    "energy": ("energyTruth", "energy"),
    "timing": ("timeTruth", "timing"),
    "uvw": ("uvwTruth", "uvwFI"),
    "xyz": ("xyzTruth",),
    "vertex": ("xyzVTX",),
    "n_gamma": ("nGamma",),
    "reco_energy": ("energyReco",),
    "reco_timing": ("timeReco",),
    "reco_uvw": ("uvwRecoFI", "xyzRecoFI", "uvwRecoLC", "xyzRecoLC"),
}
"""Branches that hold a quantity of the batch, tried in order."""
HELPERS = {"largest": ("npho_max_used",), "charge": ("nphe",)}
"""Branches that some of the others need: largest count of the event, photo-electrons."""
SENSOR_READINGS = ("npho", "relative_time")
TRUTHS = ("direction", "energy", "timing", "uvw", "xyz", "vertex", "n_gamma")
CONVENTIONAL = ("reco_energy", "reco_timing", "reco_uvw")
WHOLE = ("run", "event", "n_gamma")  # quantities that are whole numbers
VECTORS = {"direction": (2, 3), "uvw": (3,), "xyz": (3,), "vertex": (3,), "reco_uvw": (3,)}
CHARGE = 50.0  # photo-electrons above which a channel can be the earliest one


class BadFileError(ValueError):
    """A file that cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Units:
    """Factors that turn the numbers of a file into the units of the domain.

    Args:
        energy: GeV in a unit of the energies.
        timing: ns in a unit of the event times.
        time: s in a unit of the channel times.
    """

    energy: float = 1.0
    timing: float = 1.0
    time: float = 1.0


@dataclass(frozen=True)
class Branch:
    """What is known of a branch from the header.

    Args:
        shape: Of one event's values; None when their number differs from event to event.
        kind: NumPy's letter of the type: f, i, u or b are numbers.
    """

    shape: tuple[int, ...] | None
    kind: str

    @property
    def width(self) -> int:
        """Numbers of one event, 0 when they cannot be told."""
        usable = self.shape is not None and self.kind in "fiub"
        return int(np.prod(self.shape)) if usable and self.shape else int(usable)

    def __str__(self) -> str:
        if self.shape is None:
            return "[?]"
        return "".join(f"[{size}]" for size in self.shape)


Layout = Mapping[str, str]  # name of the branch of every quantity and helper that is there


def describe(branches: Mapping[str, Branch]) -> str:
    """Names and shapes of branches for a message."""
    return ", ".join(f"{name}{branch}" for name, branch in branches.items()) or "none"


def find_layout(branches: Mapping[str, Branch], where: str) -> Layout:
    """The branches that hold what a batch is made of.

    Args:
        branches: Those of the tree.
        where: File, for the message.

    Returns:
        Branch by quantity; truths and others that are missing, or are no such vectors, are left
        out.

    Raises:
        BadFileError: If there are no sensor readings, or not one for every sensor.
    """
    layout: dict[str, str] = {}
    for name in SENSOR_READINGS:
        present = [alias for alias in ALIASES[name] if alias in branches]
        if not present:
            raise BadFileError(
                f"{where} has no branch {' or '.join(ALIASES[name])}; "
                f"its branches are {describe(branches)}"
            )
        layout[name] = present[0]
        width = branches[present[0]].width
        if width != SENSORS:
            raise BadFileError(
                f"{where} has {width or 'no fixed number of'} values of {present[0]} an event "
                f"where there are {SENSORS} sensors"
            )
    for name, aliases in {**ALIASES, **HELPERS}.items():
        widths = VECTORS.get(name, (SENSORS,) if name == "charge" else (1,))
        fitting = [one for one in aliases if one in branches and branches[one].width in widths]
        if fitting and name not in layout:
            layout[name] = fitting[0]
    return layout


def counts_are_relative(layout: Layout) -> bool:
    """Whether photon counts are known only relative to the event's largest."""
    return layout["npho"] == "relative_npho" and "largest" not in layout


def has_time_min(layout: Layout) -> bool:
    """Whether the time that channel times are relative to is known."""
    return "time_min" in layout or layout["relative_time"] == "time"


def branches_of(layout: Layout, names: tuple[str, ...]) -> dict[str, np.dtype[np.generic]]:
    """Branches to read for some quantities, with the type in which they are wanted.

    Args:
        layout: Of the file.
        names: Quantities.
    """
    wanted = [name for name in names if name in layout]
    if layout["npho"] == "relative_npho" and {"npho", "relative_time"} & set(names):
        wanted.append("largest")
    if "relative_time" in names and layout["relative_time"] == "time":
        wanted += ["time_min", "charge"]
        wanted += ["npho"] if "charge" not in layout else []
    whole = np.dtype(np.int64)
    real = np.dtype(np.float32)
    return {layout[one]: whole if one in WHOLE else real for one in wanted if one in layout}


def quantities(raw: Arrays, layout: Layout, names: tuple[str, ...], units: Units) -> Arrays:
    """Turn branches into quantities of a batch; sensor arrays are changed in place.

    Args:
        raw: Arrays of `branches_of`, each ``(b, ...)``.
        layout: Of the file.
        names: Quantities that are wanted.
        units: Factors.

    Returns:
        ``npho`` in photons and ``relative_time`` in s, both ``(b, 4760)`` with 1e10 for what is
        invalid, ``time_min`` in s ``(b,)``, and the others that are there; an invalid truth is
        NaN. Everything is float32, whole numbers are int64.
    """
    found: Arrays = {}
    read = {name: raw[branch] for name, branch in layout.items() if branch in raw}
    if "npho" in read:
        found["npho"] = _photons(read, layout)
    if "relative_time" in names:
        found |= _times(read | found, layout, units.time)
    for name in names:
        if name in read and name not in found:
            found[name] = _event_values(name, read[name], layout[name], units)
    return {name: found[name] for name in names if name in found}


def invalidate(values: Floats) -> int:
    """Replace NaN and infinities by 1e10, in place.

    Args:
        values: Sensor readings.

    Returns:
        How many there were.
    """
    # one pass without a mask: nearly all files are clean
    if math.isfinite(float(torch.from_numpy(values).sum())):
        return 0
    bad = ~np.isfinite(values)
    values[bad] = INVALID
    return int(bad.sum())


def _photons(read: Arrays, layout: Layout) -> Floats:
    values = read["npho"].astype(np.float32, copy=False)
    if layout["npho"] == "relative_npho" and "largest" in read:
        largest = read["largest"].reshape(-1, 1).astype(np.float32)
        valid = (values < INVALID_FROM) & (largest < INVALID_FROM)
        np.multiply(values, largest, out=values, where=valid)
        values[~valid] = INVALID  # also NaN and infinities, which compare as false
    return values


def _times(read: Arrays, layout: Layout, factor: float) -> Arrays:
    times = read["relative_time"].astype(np.float32, copy=False)
    stored = read.get("time_min")
    start = None if stored is None else _scalars(stored)
    if layout["relative_time"] == "time":
        valid = np.abs(times) < INVALID_FROM
        start = _earliest(times, valid, _charge(read)) if start is None else start
        np.subtract(times, start[:, None], out=times, where=valid)
        times[~valid | np.isnan(start)[:, None]] = INVALID
    if factor != 1:
        np.multiply(times, factor, out=times, where=np.abs(times) < INVALID_FROM)
        start = None if start is None else start * factor
    return {"relative_time": times} | ({} if start is None else {"time_min": start})


def _charge(read: Arrays) -> Floats:
    """Photo-electrons of every channel, estimated from the photons where they are not stored."""
    if "charge" in read:
        return read["charge"].astype(np.float32, copy=False)
    efficiency = np.full(SENSORS, PMT_EFFICIENCY, np.float32)
    efficiency[:INNER] = SIPM_EFFICIENCY
    counts = read["npho"].astype(np.float32, copy=False)
    return np.where(counts < INVALID_FROM, counts * efficiency, 0).astype(np.float32)


def _earliest(times: Floats, valid: NDArray[np.bool_], charge: Floats) -> Floats:
    """Earliest time of a channel with enough light, else of any; NaN without any."""
    bright = valid & (charge > CHARGE) & (charge < INVALID_FROM)
    counted = np.where(bright.any(axis=1, keepdims=True), bright, valid)
    start = np.where(counted, times, np.inf).min(axis=1)
    return np.where(np.isinf(start), np.nan, start).astype(np.float32)


def _event_values(
    name: str, values: NDArray[np.generic], branch: str, units: Units
) -> NDArray[np.generic]:
    if name in WHOLE:
        return values.reshape(-1).astype(np.int64)
    found = _scalars(values) if name not in VECTORS else _missing_as_nan(values)
    if name in VECTORS:
        found = found.reshape(len(found), -1)
    if name == "direction" and found.shape[1] == 2:
        found = emission_direction(found.astype(np.float64)).astype(np.float32)
    if branch.startswith("xyzReco"):
        found = to_uvw(found.astype(np.float64)).astype(np.float32)
    factor = {"energy": units.energy, "timing": units.timing, "time_min": units.time}
    return found * np.float32(factor.get(name.removeprefix("reco_"), 1.0))


def _scalars(values: NDArray[np.generic]) -> Floats:
    return _missing_as_nan(values.reshape(-1))


def _missing_as_nan(values: NDArray[np.generic]) -> Floats:
    real = values.astype(np.float32)
    return np.where(np.abs(real) < INVALID_FROM, real, np.float32(np.nan))
