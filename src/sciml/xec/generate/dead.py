"""Which channels of a simulated detector are dead."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciml.xec.physics.constants import SENSORS


def dead_channels(dead: int | Sequence[int] | Path, calib_seed: int) -> tuple[int, ...]:
    """Ids of dead channels in growing order.

    Args:
        dead: How many to draw, their ids, or a file of them. In a text file an id stands on each
            line, and # begins a comment; in an npz file the array ``dead`` holds ids, or a flag for
            each of the 4760 channels.
        calib_seed: Of the draw, which belongs to the detector: all sets of a detector have the
            same dead channels, and of fewer a part of those.

    Raises:
        ValueError: If there are not so many channels, or the file is wrong.
        FileNotFoundError: If there is no such file.
    """
    if isinstance(dead, Path):
        return _checked(_read(dead), f"in {dead}")
    if not isinstance(dead, int):
        return _checked(list(dead), "in --dead")
    if not 0 <= dead <= SENSORS:
        raise ValueError(f"dead is {dead}; give 0 to {SENSORS} channels")
    order = np.random.default_rng([calib_seed, 2]).permutation(SENSORS)
    return _checked(order[:dead].tolist(), "drawn")


def _checked(ids: Sequence[int], where: str) -> tuple[int, ...]:
    wrong = [channel for channel in ids if not 0 <= channel < SENSORS]
    if wrong:
        raise ValueError(f"no channel {wrong[0]} {where}; ids go from 0 to {SENSORS - 1}")
    return tuple(sorted(set(ids)))


def _read(path: Path) -> list[int]:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check --dead")
    if path.suffix == ".npz":
        return _ids(path)
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        word = line.partition("#")[0].strip()
        if word and not word.isdecimal():
            raise ValueError(f"{path} line {number} is '{word}'; give the id of a channel")
        found += [int(word)] if word else []
    return found


def _ids(path: Path) -> list[int]:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no npz file; write it with numpy.savez(path, dead=ids)")
    with np.load(path) as file:
        if "dead" not in file.files:
            raise ValueError(f"{path} has no array 'dead', only {', '.join(file.files) or 'none'}")
        values: NDArray[np.generic] = file["dead"]
    if values.ndim != 1 or values.dtype.kind not in "bui":
        raise ValueError(f"'dead' in {path} is {values.dtype} {values.shape}; give ids or flags")
    if values.dtype.kind == "b" or len(values) == SENSORS:
        return [int(channel) for channel in np.flatnonzero(values)]
    return [int(channel) for channel in values]
