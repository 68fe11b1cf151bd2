"""Which channels of the detector are dead: drawn, named, or listed in a file."""

import zipfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciml.xec.data.branches import BadFileError, describe
from sciml.xec.data.root import RootFile
from sciml.xec.physics.constants import SENSORS

DEAD = "dead"  # name of the array or branch
GENERATOR = "generator"  # tree of the settings in files of sciml xec generate
STEP = 512  # entries that are read at once


def dead_channels(dead: int | Sequence[int] | Path, calib_seed: int) -> tuple[int, ...]:
    """Ids of dead channels in growing order.

    Args:
        dead: How many to draw, their ids, or a file of them, see `listed_channels`.
        calib_seed: Of the draw, which belongs to the detector: all sets of a detector have the
            same dead channels, and of fewer a part of those.

    Raises:
        ValueError: If there are not so many channels, or the file is wrong.
        FileNotFoundError: If there is no such file.
    """
    if not isinstance(dead, int):
        return listed_channels(dead)
    if not 0 <= dead <= SENSORS:
        raise ValueError(f"dead is {dead}; give 0 to {SENSORS} channels")
    order = np.random.default_rng([calib_seed, 2]).permutation(SENSORS)
    return _checked(order[:dead].tolist(), "drawn")


def listed_channels(dead: Sequence[int] | Path, tree: str = "tree") -> tuple[int, ...]:
    """Ids of dead channels in growing order, each once.

    In a text file an id stands on each line, and # begins a comment. The array ``dead`` of an npz
    file, and the branch ``dead`` of a ROOT file, hold ids, one an entry of the tree, or a flag for
    each of the 4760 channels, where one that is raised in any entry counts.

    Args:
        dead: The ids, or a file of them: .npz, .root, any other one is text.
        tree: Of a ROOT file; without the branch in it, that of the generator is looked at.

    Raises:
        ValueError: If there are no such channels, or the file is wrong.
        FileNotFoundError: If there is no such file.
    """
    if not isinstance(dead, Path):
        return _checked(list(dead), "in --dead")
    if not dead.is_file():
        raise FileNotFoundError(f"no file {dead}; check --dead")
    if dead.suffix == ".npz":
        ids = _of_npz(dead)
    else:
        ids = _of_root(dead, tree) if dead.suffix == ".root" else _of_text(dead)
    return _checked(ids, f"in {dead}")


def _checked(ids: Sequence[int], where: str) -> tuple[int, ...]:
    wrong = [channel for channel in ids if not 0 <= channel < SENSORS]
    if wrong:
        raise ValueError(f"no channel {wrong[0]} {where}; ids go from 0 to {SENSORS - 1}")
    return tuple(sorted(set(ids)))


def _of_text(path: Path) -> list[int]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no text; give the id of a channel on each line, or an .npz or .root file"
        ) from error
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        word = line.partition("#")[0].strip()
        if word and not word.isdecimal():
            raise ValueError(f"{path} line {number} is '{word}'; give the id of a channel")
        found += [int(word)] if word else []
    return found


def _of_npz(path: Path) -> list[int]:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no npz file; write it with numpy.savez(path, dead=ids)")
    with np.load(path) as file:
        if DEAD not in file.files:
            raise ValueError(f"{path} has no array 'dead', only {', '.join(file.files) or 'none'}")
        values: NDArray[np.generic] = file[DEAD]
    if values.ndim != 1 or values.dtype.kind not in "bui":
        raise ValueError(f"'dead' in {path} is {values.dtype} {values.shape}; give ids or flags")
    if values.dtype.kind == "b" or len(values) == SENSORS:
        return _raised(values[None], path)
    return [int(channel) for channel in values]


def _of_root(path: Path, tree: str) -> list[int]:
    with ExitStack() as closing:
        file = _holder(path, tree)
        closing.callback(file.close)
        branch, ids = file.branches[DEAD], set[int]()
        if branch.kind not in {1: "ui", SENSORS: "bfui"}.get(branch.width, ""):
            raise ValueError(
                f"the branch dead{branch} of {path} is no list; give a flag for each of the "
                f"{SENSORS} channels, or a whole number an entry, the id of one"
            )
        for start in range(0, file.entries, STEP):
            stop = min(start + STEP, file.entries)
            values = file.read({DEAD: np.dtype(np.float64)}, start, stop)[DEAD]
            values = values.reshape(stop - start, branch.width)
            found = _raised(values, path) if branch.width > 1 else values[:, 0].astype(int).tolist()
            ids.update(found)
    return sorted(ids)


def _holder(path: Path, tree: str) -> RootFile:
    """The tree with the branch."""
    file = RootFile(path, tree)
    if DEAD in file.branches:
        return file
    file.close()
    with suppress(BadFileError):  # not a file of the generator
        settings = RootFile(path, GENERATOR)
        if DEAD in settings.branches:
            return settings
        settings.close()
    raise ValueError(
        f"the tree '{tree}' of {path} has no branch 'dead'; its branches are "
        f"{describe(file.branches)}"
    )


def _raised(flags: NDArray[Any], path: Path) -> list[int]:
    """Ids of the channels with a flag in any row, ``(n, 4760)``."""
    other = flags[(flags != 0) & (flags != 1)]
    if flags.shape[1] != SENSORS:
        raise ValueError(
            f"'dead' in {path} has {flags.shape[1]} flags; give one for each of the {SENSORS} "
            "channels"
        )
    if len(other):
        raise ValueError(
            f"'dead' in {path} has {other[0]:g} among its {SENSORS} flags; give 0 or 1 for each "
            "channel"
        )
    return [int(channel) for channel in np.flatnonzero(flags.any(0))]
