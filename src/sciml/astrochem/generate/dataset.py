"""A whole set of tracers: plan, fan out, gather into one file."""

import hashlib
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sciml.astrochem.data.table import make_table
from sciml.astrochem.data.writer import GroupWriter
from sciml.astrochem.generate.settings import Settings, describe_chemistry, open_chemistry
from sciml.astrochem.generate.tables import History
from sciml.astrochem.generate.tracer import Job, Shard, compute_tracer, read_shard
from sciml.core.files import refuse_existing
from sciml.core.parallel import Backend, FanOut, Tally, check_workers, fan_out
from sciml.core.parts import claim, failures_of, keep_failures

GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(slots=True)
class Summary:
    """What a run of the generator made.

    Args:
        path: The file.
        group: Group of the tracers in it.
        tracers: Tracers in it.
        evolved: How many of them start from evolved chemistry.
        steps: Steps of all of them.
        cpu: CPU seconds of the steps.
        fallbacks: Steps by the method that had to take them over.
        drift: Largest relative change of an element's total over a tracer.
        charge: Largest net charge per H nucleus.
        failures: Reason of every tracer that is not in it, by its number.
        resumed: Tracers that an earlier run had finished.
        seconds: Wall time of this run.
    """

    path: Path
    group: str
    tracers: int = 0
    evolved: int = 0
    steps: int = 0
    cpu: float = 0.0
    fallbacks: Counter[str] = field(default_factory=Counter)
    drift: float = 0.0
    charge: float = 0.0
    failures: dict[int, str] = field(default_factory=dict)
    resumed: int = 0
    seconds: float = 0.0

    def add(self, shard: Shard) -> None:
        """Count a finished tracer."""
        self.tracers += 1
        self.evolved += shard.evolved
        self.steps += len(shard.time) - 1
        self.cpu += shard.cpu
        self.fallbacks.update(shard.fallbacks)
        self.drift = max(self.drift, shard.drift)
        self.charge = max(self.charge, shard.charge)

    def __str__(self) -> str:
        taken = ", ".join(f"{count} by {method}" for method, count in self.fallbacks.items())
        lines = [
            f"{self.path}: group {self.group}, {self.tracers} tracers ({self.evolved} from evolved"
            f" chemistry), {self.steps} steps in {self.seconds:.0f} s",
            f"{1e3 * self.cpu / self.steps:.1f} CPU ms a step; fallbacks: {taken or 'none'};"
            f" element drift {self.drift:.1e}; net charge {self.charge:.1e}",
        ]
        if self.resumed:
            lines.append(f"{self.resumed} of the tracers were there from an earlier run")
        lines.append(
            f"tracers that failed: {len(self.failures)}; see {failures_of(self.path)}"
            if self.failures
            else "no tracer failed"
        )
        lines += [f"  {number}: {reason}" for number, reason in list(self.failures.items())[:5]]
        return "\n".join(lines)


def generate_dataset(
    out: Path,
    settings: Settings,
    tracers: int | Mapping[int, History],
    *,
    group: str | None = None,
    seed: int = 0,
    workers: int | None = None,
    runner: Backend = "processes",
    progress: Callable[[Tally], None] | None = None,
) -> Summary:
    """Integrate all tracers and write them to one HDF5 file, layout sciml-astrochem-1.

    The rows are the same, bit for bit, for any number of workers, and a tracer does not depend on
    how many there are. Finished tracers are kept in ``<out>.parts`` until the file is complete:
    after a stop, whatever its reason, the same call goes on where it was. Tracers that fail are
    left out; ``<out>.failures.jsonl`` says why.

    Args:
        out: The file to make.
        settings: What to compute for each tracer.
        tracers: How many to draw, or the histories of the family csv by number.
        group: Group of the file; the family by default.
        seed: Seed of histories and starts.
        workers: Processes; by default one for every core.
        runner: Where the tasks run.
        progress: Called after every tracer.

    Returns:
        What was made.

    Raises:
        ValueError: If the file exists, a run with other settings was left unfinished, the
            settings contradict each other, or every tracer fails.
    """
    begin = time.monotonic()
    group = settings.family if group is None else group
    _check(out, settings, tracers, group)
    check_workers(workers)
    described = describe_chemistry(settings)
    jobs = {f"{job.number:06d}": job for job in _jobs(settings, tracers)}
    numbers = {key: job.number for key, job in jobs.items()}
    with claim(out, described | _fingerprint(settings, tracers, group, seed)) as parts:
        result = fan_out(
            compute_tracer,
            jobs,
            parts,
            backend=runner,
            workers=workers,
            seed=seed,
            progress=progress,
        )
        keep_failures(out, result, numbers, "tracer")
        summary = Summary(out, group, resumed=result.skipped)
        summary.failures = {numbers[key]: reason for key, reason in result.failures.items()}
        _gather(summary, settings, jobs, result, seed=seed, described=described)
        shutil.rmtree(parts)
    summary.seconds = time.monotonic() - begin
    return summary


def _check(out: Path, settings: Settings, tracers: int | Mapping[int, History], group: str) -> None:
    """What can be said before anything is written."""
    refuse_existing(out)
    if (settings.family == "csv") == isinstance(tracers, int):
        raise ValueError("the family csv and --histories belong together; give both or neither")
    if isinstance(tracers, int) and tracers < 1:
        raise ValueError(f"tracers is {tracers}; give at least 1")
    if not GROUP.fullmatch(group):
        raise ValueError(f"'{group}' cannot name a group; use letters, digits and _ . -")


def _jobs(settings: Settings, tracers: int | Mapping[int, History]) -> list[Job]:
    if isinstance(tracers, int):
        return [Job(number, settings) for number in range(tracers)]
    return [Job(number, settings, history) for number, history in tracers.items()]


def _gather(
    summary: Summary,
    settings: Settings,
    jobs: Mapping[str, Job],
    result: FanOut,
    *,
    seed: int,
    described: Mapping[str, str | float | None],
) -> None:
    """Write the finished tracers in the order of the jobs, one at a time, and count."""
    with open_chemistry(settings) as chemistry:
        species, elements = chemistry.species, chemistry.elements
    lengths = [float(np.median(np.diff(read_shard(path).time))) for path in result.paths.values()]
    attributes = dict(described)
    generator, sha256 = attributes.pop("generator"), attributes.pop("network_sha256")
    with GroupWriter(
        summary.path,
        dt_yr=float(np.median(lengths)),
        generator=str(generator),
        initial=_initial(settings),
        seed=seed,
        network_sha256=None if sha256 is None else str(sha256),
        elements=elements,
        attributes=attributes,
    ) as writer:
        for key, path in result.paths.items():
            shard = read_shard(path)
            rows = len(shard.time)
            table = make_table(
                shard.values, shard.time, [rows], species, numbers=[jobs[key].number]
            )
            writer.add(summary.group, table)
            summary.add(shard)
        about = {
            "family": settings.family,
            "cpu_s_per_tracer_step": summary.cpu / summary.steps,
            "evolved_starts": summary.evolved,
        }
        writer.describe(summary.group, about)


def _initial(settings: Settings) -> str:
    """What the tracers start from, in words."""
    shares = {"atomic": 1 - settings.evolved_fraction, "evolved": settings.evolved_fraction}
    return ", ".join(f"{start} {share:.0%}" for start, share in shares.items() if share > 0)


def _fingerprint(
    settings: Settings, tracers: int | Mapping[int, History], group: str, seed: int
) -> dict[str, object]:
    """Settings that decide what is in the file."""
    made = {**settings.as_json(), "group": group, "seed": seed}
    if isinstance(tracers, int):
        return made | {"tracers": tracers}
    digest = hashlib.sha256()
    for number, history in tracers.items():
        digest.update(str(number).encode() + history.time.tobytes() + history.conditions.tobytes())
    return made | {"tracers": len(tracers), "histories_sha256": digest.hexdigest()}
