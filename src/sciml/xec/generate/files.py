"""One ROOT file of simulated events: the tree of the events and one of what made them."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sciml.core.extras import need
from sciml.xec.generate.events import BRANCHES, simulate
from sciml.xec.generate.settings import Settings
from sciml.xec.physics.constants import SENSORS

Compression = Literal["zstd", "lz4", "zlib", "lzma", "none"]

LEVELS = {"zstd": 3, "lz4": 1, "zlib": 1, "lzma": 1}
"""Beyond these files shrink by less than a tenth and take twice the time."""
BASKET = 200  # events that are made, compressed and later read at once
TEXT = 32  # bytes of a text in the tree of the settings


@dataclass(frozen=True, slots=True)
class Job:
    """A file to make.

    Args:
        events: How many are in it.
        settings: Of gammas and detector.
        number: Of the file in its set.
        run: Number of the run.
        set_seed: Seed of the whole set.
        compression: Of the file.
    """

    events: int
    settings: Settings
    number: int
    run: int
    set_seed: int
    compression: Compression = "zstd"


def write_file(job: Job, path: Path, seed: int) -> None:
    """Make the events of a file, a basket at a time.

    Args:
        job: What to make.
        path: The file; an existing one is replaced.
        seed: Of the file's random numbers.
    """
    uproot = need("uproot", extra="xec")
    with uproot.recreate(path, compression=_compressor(job.compression)) as file:
        types = {name: np.dtype(kind) for name, kind in BRANCHES.items()}
        tree = file.mktree("tree", types, title="gammas in liquid xenon")
        for first in range(0, job.events, BASKET):
            count = min(BASKET, job.events - first)
            tree.extend(simulate(count, job.settings, seed, first=first, run=job.run))
        about = _description(job, seed)
        types = {name: np.dtype((values.dtype, values.shape)) for name, values in about.items()}
        tree = file.mktree("generator", types, title="settings and seeds of the events")
        tree.extend({name: values[None] for name, values in about.items()})


def _compressor(name: Compression) -> Any:
    """What uproot calls it."""
    if name == "none":
        return None
    uproot = need("uproot", extra="xec")
    kinds = {"zstd": uproot.ZSTD, "lz4": uproot.LZ4, "zlib": uproot.ZLIB, "lzma": uproot.LZMA}
    return kinds[name](LEVELS[name])


def _description(job: Job, seed: int) -> dict[str, NDArray[Any]]:
    """Settings as numbers; texts are bytes of fixed length, dead channels a flag each."""
    values: Mapping[str, Any] = job.settings.as_json()
    numbers = {
        "seed": job.set_seed,
        "file": job.number,
        "file_seed": seed,
        "run": job.run,
        "events": job.events,
        "calib_seed": values["calib_seed"],
    }
    texts = {
        "generator": f"sciml {version('sciml')}",
        "vertex": values["vertex"],
        "spectrum": values["spectrum"],
    }
    dead = np.zeros(SENSORS, np.int8)
    dead[values["dead"]] = 1
    return (
        {name: np.asarray(value, np.int64) for name, value in numbers.items()}
        | {name: np.asarray(values[name], np.float64) for name in ("pileup", "miscal", "noise")}
        | {name: np.frombuffer(_padded(text), np.int8) for name, text in texts.items()}
        | {"dead": dead}
    )


def _padded(text: str) -> bytes:
    return text.encode()[:TEXT].ljust(TEXT, b"\0")
