"""Small ROOT files with events of known numbers: all names, shapes and faults a file can have."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import uproot
from numpy.typing import NDArray

SENSORS = 4760
DEAD = 1e10
Arrays = dict[str, NDArray[Any]]


def events(count: int, seed: int = 0, run: int = 7) -> Arrays:
    """Branches of events as our own files have them; event i of the file has number i.

    Args:
        count: How many.
        seed: Of the random numbers.
        run: Run number.
    """
    rng = np.random.default_rng(seed)
    xyz = rng.uniform(-60, 60, (count, 3))
    angles = np.stack([rng.uniform(60, 120, count), rng.uniform(-60, 60, count)], axis=1)
    theta, phi = np.radians(angles.T)
    direction = np.stack(
        [-np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=1
    )
    uvw = rng.uniform([-30, -80, 0], [30, 80, 35], (count, 3))
    npho = rng.integers(0, 2000, (count, SENSORS)).astype("f4")
    npho[:, 17] = DEAD
    # first sensor: tells the event apart, whatever is done to it
    npho[:, 0] = np.arange(count)
    times = rng.integers(0, 4000, (count, SENSORS)) * np.float32(5e-11)
    times[:, 17] = DEAD
    return {
        "npho": npho,
        "relative_time": times.astype("f4"),
        "npho_max_used": np.where(npho < 9e9, npho, 0).max(axis=1).astype("f4"),
        "time_min_used": rng.uniform(-6.2e-7, -5.8e-7, count).astype("f4"),
        "energyTruth": rng.uniform(0.015, 0.06, count).astype("f4"),
        "timeTruth": rng.uniform(-615, -585, count).astype("f4"),
        "uvwTruth": uvw.astype("f4"),
        "xyzTruth": xyz.astype("f4"),
        "xyzVTX": rng.normal(size=(count, 3)).astype("f4"),
        "emiVec": direction.astype("f4"),
        "emiAng": angles.astype("f4"),
        "run": np.full(count, run, dtype="i4"),
        "event": np.arange(count, dtype="i4"),
        "nGamma": rng.integers(1, 3, count).astype("i4"),
    }


def write_file(
    path: Path,
    branches: Mapping[str, NDArray[Any]],
    *,
    tree: str = "tree",
    basket: int = 10,
) -> Path:
    """Write branches as a tree.

    Args:
        path: The file to make; its folder is made.
        branches: Arrays of equal lengths, perhaps 0.
        tree: Name of the tree.
        basket: Entries a basket.

    Returns:
        The path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    types = {name: (values.dtype, values.shape[1:]) for name, values in branches.items()}
    count = len(next(iter(branches.values())))
    with uproot.recreate(path, compression=uproot.ZSTD(1)) as file:
        file.mktree(tree, types)
        for start in range(0, count, basket):
            part = slice(start, start + basket)
            file[tree].extend({name: values[part] for name, values in branches.items()})
    return path


def make_files(folder: Path, *counts: int, basket: int = 10) -> list[Path]:
    """Files ``0.root``, ``1.root``, … with so many events each.

    Args:
        folder: Where.
        counts: Events of every file.
        basket: Entries a basket.
    """
    return [
        write_file(folder / f"{number}.root", events(count, number, run=number), basket=basket)
        for number, count in enumerate(counts)
    ]


def without(branches: Arrays, *names: str) -> Arrays:
    """The same branches but some.

    Args:
        branches: All.
        names: Those to leave out.
    """
    return {name: values for name, values in branches.items() if name not in names}


def renamed(branches: Arrays, **names: str) -> Arrays:
    """The same branches, some under other names.

    Args:
        branches: All.
        names: New name by old one.
    """
    return {names.get(name, name): values for name, values in branches.items()}


def cut_short(path: Path, share: float = 0.5) -> Path:
    """Leave only the beginning of a file.

    Args:
        path: The file.
        share: Of its bytes.
    """
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def damage(path: Path, branch: str = "npho") -> Path:
    """Overwrite the first basket of a branch.

    Args:
        path: The file.
        branch: Its name.
    """
    with uproot.open({str(path): None}) as file:
        place = int(file["tree"][branch].member("fBasketSeek")[0])
    content = bytearray(path.read_bytes())
    content[place + 60 : place + 400] = bytes(340)
    path.write_bytes(content)
    return path
