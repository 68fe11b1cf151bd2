"""Events of files through a trained network, as a table of what it found (b events).

Every file gives a part beside the table; the parts are joined once all are there, so that a run
that was stopped goes on with the first file that was not finished.
"""

import hashlib
import json
import os
import shutil
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sciml.core.parallel import Tally
from sciml.core.parts import claim
from sciml.core.stream import StreamOrder
from sciml.xec.apply.reconstructor import IDS, Reconstructor, reco_names
from sciml.xec.data.branches import (
    CONVENTIONAL,
    TRUTHS,
    Arrays,
    BadFileError,
    Units,
    counts_are_relative,
)
from sciml.xec.data.index import UNITS, FileIndex, Indexing, OnBadFile, build_index
from sciml.xec.data.profile import EventLoader
from sciml.xec.data.root import RootFile
from sciml.xec.data.source import RootSource
from sciml.xec.data.writer import EventWriter, Format

Progress = Callable[[Tally], None]
TREE = "val_tree"
CHUNK = 512  # events that are read at once
ROWS = 4096  # rows of a part that are joined at once
ABOUT = "about"  # tree of a part with its counters


@dataclass(frozen=True)
class Streaming:
    """How events are read.

    Args:
        tree: Name of the files' tree.
        batch_size: Events that the network sees at once.
        events: How many at most, the first ones of the files; by default all.
        units: Factors for files in other units.
        on_bad_file: Whether a file that cannot be used ends the run or is left out.

    Raises:
        ValueError: If a number is below 1.
    """

    tree: str = "tree"
    batch_size: int = 256
    events: int | None = None
    units: Units = UNITS
    on_bad_file: OnBadFile = "fail"

    def __post_init__(self) -> None:
        for name in ("batch_size", "events"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; give at least 1")


STREAMING = Streaming()


@dataclass
class Summary:
    """What a run made.

    Args:
        path: The table.
        files: How many files are in it.
        resumed: How many of them an earlier run had finished.
        bad: What is wrong with each of those that are left out.
        counts: Of the table: ``events``, ``invalid`` photon counts in the files, ``infinite``
            readings that were NaN or infinite, ``unknown`` events with a result that is not finite.
        made: Events that this run reconstructed.
        seconds: Wall time of this run.
        latency: ms that the network took for each of its batches.
    """

    path: Path
    files: int = 0
    resumed: int = 0
    bad: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    made: int = 0
    seconds: float = 0.0
    latency: "array[float]" = field(default_factory=lambda: array("d"))


def infer(
    reconstructor: Reconstructor,
    files: Sequence[Path],
    out: Path,
    *,
    streaming: Streaming = STREAMING,
    format: Format | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Reconstruct the events of files into one table, in the order of the files.

    Memory does not grow with the events. Finished files wait in ``<out>.parts``: after a stop,
    whatever its reason, the same call goes on with the next one. A file that has changed since, or
    was added, is read; parts of another network are never mixed in.

    Args:
        reconstructor: The network.
        files: ROOT files.
        out: The table to make, .root with the tree ``val_tree``, .csv or .parquet.
        streaming: How events are read.
        format: Of the table, where its suffix does not tell.
        progress: Told how many events are done.

    Raises:
        FileNotFoundError: If a file is missing.
        BadFileError: If a file cannot be used and must not be left out.
        ValueError: If the table exists, no file can be used, or a run with other settings was left
            unfinished.
    """
    began = time.perf_counter()
    EventWriter(out, format=format)  # says what is wrong with the place before any work
    tree, units = streaming.tree, streaming.units
    index = build_index(files, Indexing(tree=tree, units=units, on_bad_file=streaming.on_bad_file))
    _check_counts(reconstructor, index.files)
    settings = {
        "sciml": version("sciml"),
        "checkpoint_sha256": reconstructor.digest,
        "dead channels_sha256": _sha256(reconstructor.dead.tolist()),
        "tree": tree,
        "units": asdict(units),
    }
    summary = Summary(out, bad=list(index.bad))
    jobs = _jobs(index.files, streaming.events)
    with _kept_parts(out, settings) as folder:
        _make_parts(jobs, folder, reconstructor, streaming, summary, progress)
        jobs = [job for job in jobs if (folder / job.name).exists()]
        if not jobs:
            raise ValueError(f"none of the {len(files)} files can be used: {summary.bad[0]}")
        have_reco = {name for job in jobs for name in job.file.layout}
        names = [*reconstructor.names, *reco_names(have_reco)]
        summary.counts = _join([folder / job.name for job in jobs], out, names, format)
    summary.files, summary.seconds = len(jobs), time.perf_counter() - began
    return summary


@dataclass(frozen=True)
class _Job:
    """The first rows of a file."""

    file: FileIndex
    rows: int

    @property
    def name(self) -> str:
        """Of its part; that of a file that was changed is another one."""
        place = os.path.realpath(self.file.path)
        return _sha256([place, self.file.size, self.file.modified, self.rows])[:32] + ".root"


def _jobs(files: Sequence[FileIndex], events: int | None) -> list[_Job]:
    jobs, left = [], sum(file.entries for file in files) if events is None else events
    for file in files:
        if left > 0:
            jobs.append(_Job(file, min(file.entries, left)))
            left -= file.entries
    return jobs


def _check_counts(reconstructor: Reconstructor, files: Sequence[FileIndex]) -> None:
    for file in files:
        if counts_are_relative(file.layout) and not reconstructor.takes_relative_counts:
            raise ValueError(
                f"{file.path} has relative_npho without npho_max_used, so that photon counts are "
                "known only relative to the largest one; the network has an energy head or an "
                "npho_threshold above 0 and needs photons"
            )


@contextmanager
def _kept_parts(out: Path, settings: Mapping[str, object]) -> Iterator[Path]:
    """Folder of the parts, which stays as long as it can save work."""
    with claim(out, settings) as folder:
        try:
            yield folder
        finally:
            if out.exists() or not any(folder.glob("*.root")):
                shutil.rmtree(folder)


def _make_parts(
    jobs: Sequence[_Job],
    folder: Path,
    reconstructor: Reconstructor,
    streaming: Streaming,
    summary: Summary,
    progress: Progress | None,
) -> None:
    missing = [job for job in jobs if not (folder / job.name).exists()]
    total = sum(job.rows for job in jobs)
    skipped = total - sum(job.rows for job in missing)
    summary.resumed = len(jobs) - len(missing)

    def step(rows: int, seconds: float) -> None:
        summary.made += rows
        summary.latency.append(1000 * seconds)
        if progress is not None:
            progress(Tally(total, skipped=skipped, finished=summary.made))

    for job in missing:
        try:
            _make_part(job, folder / job.name, reconstructor, streaming, step)
        except BadFileError as error:
            if streaming.on_bad_file == "fail":
                raise
            summary.bad.append(str(error))


def _make_part(
    job: _Job,
    path: Path,
    reconstructor: Reconstructor,
    streaming: Streaming,
    step: Callable[[int, float], None],
) -> None:
    layout = job.file.layout
    names = [name for name in (*TRUTHS, *CONVENTIONAL) if name in layout]
    source = RootSource([job.file], names, CHUNK, units=streaming.units, tree=streaming.tree)
    source = source.without_last(job.file.entries - job.rows)
    order = StreamOrder(train=False, chunks_per_block=1)
    loader = EventLoader(source, order, streaming.batch_size)
    real = [*reconstructor.names, *reco_names(layout)]
    unknown, widths = 0, dict.fromkeys(IDS, 4)
    with ExitStack() as closing:
        closing.callback(loader.close)
        types = dict.fromkeys(IDS, "i8") | dict.fromkeys(real, "f4")
        writer = closing.enter_context(EventWriter(path, types, tree=TREE))
        for batch in loader:
            began = time.perf_counter()
            rows = reconstructor.columns(batch)
            seconds = time.perf_counter() - began
            writer.write(rows)
            results = [v for name, v in rows.items() if name.startswith(("pred_", "sig_"))]
            unknown += int((~torch.stack([v.isfinite() for v in results])).any(0).sum())
            widths = {name: max(width, _width(rows[name])) for name, width in widths.items()}
            step(len(rows["run_id"]), seconds)
        profile = loader.profile
        counts = {"events": job.rows, "invalid": profile.invalid, "infinite": profile.infinite}
        writer.describe(ABOUT, counts | {"unknown": unknown} | widths)


def _join(
    parts: Sequence[Path], out: Path, names: Sequence[str], format: Format | None
) -> dict[str, int]:
    """Write all parts one after the other; the sums of their counters."""
    about = [next(_rows(part, ABOUT)) for part in parts]
    widths = {name: max(int(one[name][0]) for one in about) for name in IDS}
    types = {name: f"i{width}" for name, width in widths.items()} | dict.fromkeys(names, "f4")
    with EventWriter(out, types, tree=TREE, format=format) as writer:
        for part in parts:
            for rows in _rows(part, TREE):
                writer.write(rows)
    return {name: sum(int(one[name][0]) for one in about) for name in about[0] if name not in IDS}


def _rows(part: Path, tree: str) -> Iterator[Arrays]:
    """Rows of a part as they were written, some at a time."""
    file = RootFile(part, tree)
    try:
        kinds = {name: branch.kind for name, branch in file.branches.items()}
        types = {name: np.dtype("i8" if kind == "i" else "f4") for name, kind in kinds.items()}
        for start in range(0, file.entries, ROWS):
            yield file.read(types, start, min(start + ROWS, file.entries))
    finally:
        file.close()


def _width(values: Tensor) -> int:
    """Bytes that whole numbers need in a file, 4 or 8."""
    bounds = torch.iinfo(torch.int32)
    return 4 if bool(((values >= bounds.min) & (values <= bounds.max)).all()) else 8


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
