"""A whole set of events: plan, fan out, put the files in place."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sciml.core.extras import require
from sciml.core.files import refuse_existing
from sciml.core.parallel import Backend, FanOut, Tally, check_workers, fan_out
from sciml.core.parts import claim, parts_of
from sciml.xec.generate.files import Compression, Job, write_file
from sciml.xec.generate.settings import Settings

NAME = "events"  # of the files and of the folder of unfinished ones
MOVING = "moving"  # file that says that all are finished
MOST = 10_000  # files of a set, so that its runs have numbers of their own
SEEDS = 200_000  # seeds with different runs; with more their numbers would not fit into 32 bits


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to make.

    Args:
        events: Events in every file.
        files: How many files.
        seed: Seed of all gammas and of the noise.
        compression: Of the files.

    Raises:
        ValueError: If a number is out of its range.
    """

    events: int = 1000
    files: int = 1
    seed: int = 0
    compression: Compression = "zstd"

    def __post_init__(self) -> None:
        if self.events < 1:
            raise ValueError(f"events is {self.events}; give at least 1")
        if not 1 <= self.files <= MOST:
            raise ValueError(f"files is {self.files}; give 1 to {MOST}")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; give 0 or more")

    @property
    def runs(self) -> list[int]:
        """Number of the run of every file; sets of other seeds have others."""
        first = MOST * (1 + self.seed % SEEDS)
        return list(range(first, first + self.files))

    @property
    def names(self) -> list[str]:
        """Names of the files."""
        return [f"{NAME}_{number:04d}.root" for number in range(self.files)]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run of the generator made.

    Args:
        paths: The files.
        events: Events in each.
        runs: Number of the run of each.
        resumed: Files that an earlier run had finished.
        seconds: Wall time of this run.
    """

    paths: list[Path]
    events: int
    runs: list[int]
    resumed: int
    seconds: float

    def __str__(self) -> str:
        made = self.events * (len(self.paths) - self.resumed)
        lines = [
            f"{self.paths[0].parent}: files: {len(self.paths)}, events in each: {self.events},"
            f" runs from {self.runs[0]}; {made} events in {self.seconds:.0f} s"
            f" ({made / self.seconds:.0f} a second)"
        ]
        if self.resumed:
            lines.append(f"{self.resumed} of the files were there from an earlier run")
        return "\n".join(lines)


def generate_dataset(
    out: Path,
    settings: Settings,
    plan: Plan,
    *,
    workers: int | None = None,
    runner: Backend = "processes",
    progress: Callable[[Tally], None] | None = None,
) -> Summary:
    """Simulate events and write them to ROOT files, one task a file.

    The events are the same, bit for bit, for any number of workers; a file does not depend on how
    many there are, and its first events not on how many follow. Finished files wait in
    ``<out>/events.parts`` until all are there: after a stop, whatever its reason, the same call
    goes on where it was.

    Args:
        out: Folder of the files; made when missing.
        settings: Of gammas and detector.
        plan: How much to make.
        workers: Processes; by default one for every core.
        runner: Where the tasks run.
        progress: Called after every file.

    Returns:
        What was made.

    Raises:
        ValueError: If a file exists, a run with other settings was left unfinished, or files could
            not be made; those that could are kept for the next call.
    """
    begin = time.monotonic()
    require("uproot", extra="xec")
    check_workers(workers)
    _check(out, plan)
    out.mkdir(parents=True, exist_ok=True)
    jobs = {
        name: Job(plan.events, settings, number, run, plan.seed, plan.compression)
        for number, (name, run) in enumerate(zip(plan.names, plan.runs, strict=True))
    }
    with claim(out / NAME, settings.as_json() | _fingerprint(plan)) as parts:
        result = fan_out(
            write_file,
            jobs,
            parts,
            backend=runner,
            workers=workers,
            seed=plan.seed,
            progress=progress,
        )
        _refuse_failures(result, parts)
        (parts / MOVING).touch()
        paths = [path.replace(out / name) for name, path in result.paths.items()]
        shutil.rmtree(parts)
    return Summary(paths, plan.events, plan.runs, result.skipped, time.monotonic() - begin)


def _check(out: Path, plan: Plan) -> None:
    """What can be said before anything is written."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder as --out")
    if (parts_of(out / NAME) / MOVING).exists():
        return  # a run was stopped while it moved its files: these are the same ones
    for name in plan.names:
        refuse_existing(out / name)


def _refuse_failures(result: FanOut, parts: Path) -> None:
    if not result.failures:
        return
    name, reason = next(iter(result.failures.items()))
    raise ValueError(
        f"{len(result.failures)} files could not be made, the first, {name}, with '{reason}';"
        f" repeat the call to go on, or remove {parts}"
    )


def _fingerprint(plan: Plan) -> dict[str, object]:
    """Settings besides those of gammas and detector that decide what is in the files."""
    return {
        "events": plan.events,
        "files": plan.files,
        "seed": plan.seed,
        "compression": plan.compression,
    }
