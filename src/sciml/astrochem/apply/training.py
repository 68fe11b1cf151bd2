"""The tracers that a checkpoint was trained on, for baselines and against leaks."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import ArgumentParser

from sciml.astrochem.apply.emulator import AstroEmulator
from sciml.astrochem.apply.evaluation import aligned
from sciml.astrochem.apply.reading import read_tracers
from sciml.astrochem.data.columns import shorten
from sciml.astrochem.data.files import READING
from sciml.astrochem.data.module import ChemistryData
from sciml.astrochem.data.source import Reading
from sciml.astrochem.data.table import TracerTable, concatenate
from sciml.astrochem.metrics.baselines import BASELINES, Baseline
from sciml.core.checkpoint import data_config, read


@dataclass(frozen=True)
class Training:
    """What an emulator was trained on, in the order of its species.

    Args:
        source: Where the tracers are from, for titles.
        tracers: Training tracers.
        validation: Tracers of the same set that were not trained on, None if unknown.
    """

    source: str
    tracers: TracerTable
    validation: TracerTable | None


def training_of(ckpt: Path, emulator: AstroEmulator) -> Training | None:
    """The training and validation tracers by the data settings of a checkpoint.

    Args:
        ckpt: The checkpoint.
        emulator: What is in it.

    Returns:
        None if the checkpoint has no data settings.

    Raises:
        FileNotFoundError: If the files of the settings are not there.
    """
    config = data_config(read(ckpt, mapped=True), ckpt)
    if config is None:
        return None
    lost = [path for path in _files(config["init_args"]) if not Path(path).exists()]
    if lost:
        raise FileNotFoundError(
            f"the files that {ckpt} was trained on are not there: {shorten(lost)}; run it where it "
            "was trained, or give --train a file of training tracers"
        )
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ChemistryData, "data")
    data: ChemistryData = parser.instantiate(parser.parse_object({"data": config}))["data"]
    try:
        train, val = (concatenate(list(data.chunks(part))) for part in ("train", "val"))
    finally:
        data.teardown("fit")
    return Training(f"settings of {ckpt.name}", aligned(train, emulator), aligned(val, emulator))


def _files(settings: Mapping[str, Any]) -> list[str]:
    """Files that the settings of a data module name."""
    given = (settings["path"], settings.get("test") or [])
    return [path for paths in given for path in ([paths] if isinstance(paths, str) else paths)]


def training_from(
    path: Path, ckpt: Path, emulator: AstroEmulator, reading: Reading = READING
) -> Training:
    """All tracers of a file as training tracers.

    Args:
        path: A file of tracers.
        ckpt: The emulator's checkpoint, for how its own files were read.
        emulator: Whose species are wanted.
        reading: See `read_tracers`.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it cannot be understood, or has other species.
    """
    tables = read_tracers(path, ckpt, emulator, reading=reading)
    return Training(path.name, concatenate(list(tables.values())), None)


def fit_baselines(
    names: Sequence[str], training: Training | None, limits: tuple[float, float]
) -> dict[str, Baseline]:
    """Baselines by name, fitted on the training tracers.

    Args:
        names: Which ones.
        training: What they learn from; `persistence` needs nothing.
        limits: Abundances between which ratios are taken.

    Raises:
        ValueError: If a name is unknown, or there is nothing to learn from.
    """
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise ValueError(f"unknown baseline '{unknown[0]}'; there are {', '.join(BASELINES)}")
    if training is None and set(names) - {"persistence"}:
        raise ValueError(
            "the checkpoint does not say what it was trained on; give --train a file of training "
            "tracers, or --baselines persistence"
        )
    fitted = {}
    for name in names:
        fitted[name] = BASELINES[name](*limits)
        if training is not None:
            fitted[name].fit(training.tracers)
    return fitted


def unseen(table: TracerTable, training: Iterable[TracerTable]) -> TracerTable:
    """The tracers of a table that no training tracer equals in every number.

    Args:
        table: In the same order of species.
        training: What was trained on.
    """
    seen = {_digest(one, place) for one in training for place in range(len(one.ptr))}
    kept = [place for place in range(len(table.ptr)) if _digest(table, place) not in seen]
    return table.select(np.array(kept, dtype=np.int64))


def _digest(table: TracerTable, place: int) -> bytes:
    _, start, length = table.ptr[place]
    rows = np.ascontiguousarray(table.values[start : start + length], dtype=np.float32)
    return hashlib.sha256(rows.tobytes()).digest()
