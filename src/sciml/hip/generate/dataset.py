"""A whole set of molecules: plan, fan out, gather into one file."""

import hashlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase.symbols import Symbols

from sciml.core.files import refuse_existing
from sciml.core.parallel import Backend, FanOut, Tally, check_workers, fan_out
from sciml.core.parts import claim, failures_of, keep_failures
from sciml.hip.data.packed import PackedWriter
from sciml.hip.data.writer import Header
from sciml.hip.generate.engines import check_method
from sciml.hip.generate.molecules import Molecule, elements
from sciml.hip.generate.sample import Job, Sample, Settings, read_sample, sample_molecule


@dataclass(slots=True)
class Summary:
    """What a run of the generator made.

    Args:
        path: The file.
        molecules: Molecules in it.
        configurations: Configurations by kind.
        missing: Configurations that were given up.
        dropped: Draws that were not kept, by reason.
        failures: Reason of every molecule that is not in it, by its name.
        resumed: Molecules that an earlier run had finished.
        seconds: Wall time of this run.
    """

    path: Path
    molecules: int = 0
    configurations: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)
    resumed: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.configurations.items())
        lines = [
            f"{self.path}: {self.molecules} molecules, {self.configurations.total()} configurations"
            f" ({kinds}) in {self.seconds:.0f} s"
        ]
        if self.resumed:
            lines.append(f"{self.resumed} of the molecules were there from an earlier run")
        if self.dropped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
            lines.append(
                f"draws dropped and replaced: {reasons}; configurations given up: {self.missing}"
            )
        if self.failures:
            lines.append(
                f"molecules that failed: {len(self.failures)}; see {failures_of(self.path)}"
            )
            lines += [f"  {name}: {reason}" for name, reason in list(self.failures.items())[:5]]
        return "\n".join(lines)


def generate_dataset(
    out: Path,
    molecules: Sequence[Molecule],
    settings: Settings,
    *,
    seed: int = 0,
    workers: int | None = None,
    backend: Backend = "processes",
    progress: Callable[[Tally], None] | None = None,
) -> Summary:
    """Compute all configurations of all molecules and write them to one packed HDF5 file.

    The file is the same, bit for bit, for any number of workers. Finished molecules are kept in
    ``<out>.parts`` until the file is complete: after a stop, whatever its reason, the same call
    goes on where it was. Molecules that fail are left out; ``<out>.failures.jsonl`` says why.

    Args:
        out: The file to make.
        molecules: What to compute.
        settings: What to compute for each.
        seed: Seed of the embeddings and of all draws.
        workers: Processes; by default one for every core.
        backend: Where the tasks run.
        progress: Called after every molecule.

    Returns:
        What was made.

    Raises:
        ValueError: If the file exists, a run with other settings was left unfinished, the method
            cannot do what is asked, or every molecule fails.
    """
    begin = time.monotonic()
    refuse_existing(out)
    check_workers(workers)
    theory = check_method(settings.method, elements(molecules))
    jobs = {
        _key(place, molecule): Job(molecule, settings) for place, molecule in enumerate(molecules)
    }
    names = {key: job.molecule.name for key, job in jobs.items()}
    made = {"level_of_theory": theory} | _fingerprint(molecules, settings, seed)
    with claim(out, made) as parts:
        result = fan_out(
            sample_molecule,
            jobs,
            parts,
            backend=backend,
            workers=workers,
            seed=seed,
            progress=progress,
        )
        keep_failures(out, result, names, "molecule")
        summary = _gather(out, jobs, result, theory)
        shutil.rmtree(parts)
    summary.seconds = time.monotonic() - begin
    return summary


def _key(place: int, molecule: Molecule) -> str:
    return f"{place:06d}_{Symbols(molecule.numbers).get_chemical_formula()}"


def _gather(out: Path, jobs: dict[str, Job], result: FanOut, theory: str) -> Summary:
    """Write the finished molecules, in the order of the jobs, and count."""

    def samples() -> Iterator[tuple[str, Sample]]:
        for key, path in result.paths.items():
            yield key, read_sample(path, jobs[key].molecule.name)

    e0: dict[int, float] = {}
    for _, sample in samples():
        e0.update(sample.e0)
    places = {key: place for place, key in enumerate(jobs)}
    names = {key: job.molecule.name for key, job in jobs.items()}
    summary = Summary(out, len(result.paths), resumed=result.skipped)
    summary.failures = {names[key]: reason for key, reason in result.failures.items()}
    with PackedWriter(out, Header(dict(sorted(e0.items())), theory)) as writer:
        for key, sample in samples():
            for record in sample.records:
                record.identifier, record.reaction = writer.count, places[key]
                writer.add(record)
            summary.configurations.update(sample.kinds)
            summary.dropped.update(sample.dropped)
            summary.missing += jobs[key].settings.per_molecule - len(sample.kinds)
    return summary


def _fingerprint(molecules: Sequence[Molecule], settings: Settings, seed: int) -> dict[str, Any]:
    digest = hashlib.sha256()
    for molecule in molecules:
        digest.update(f"{molecule.name} {molecule.numbers.tolist()}".encode())
        if molecule.positions is not None:
            digest.update(molecule.positions.tobytes())
    return {
        **settings.as_json(),
        "seed": seed,
        "molecules": len(molecules),
        "molecules_sha256": digest.hexdigest(),
    }
