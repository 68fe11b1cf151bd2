"""Reading files once, a few tracers at a time, into a folder of artefacts."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from sciml.astrochem.data.artefacts import Artefacts
from sciml.astrochem.data.ranges import rounded_ranges
from sciml.astrochem.data.source import Reading, Source
from sciml.astrochem.data.splits import PARTS, Splitting, assign, cap
from sciml.astrochem.physics.constants import PHYSICS, PHYSICS_UNITS
from sciml.astrochem.physics.species import stoichiometric_matrix
from sciml.core.files import write_json

VERSION = 2  # of the artefacts; another one makes them anew
FEW_DIGITS = 1e-3  # relative difference between steps that float32 times explain


@dataclass(frozen=True)
class Recipe:
    """What artefacts are made of.

    Args:
        sources: Groups to train and validate on.
        tests: Groups to test on.
        elements: Elements that are counted.
        reading: How the files are read.
        splitting: How tracers are divided.
        max_rows: Rows of every part at most, whole tracers.
    """

    sources: Sequence[Source]
    tests: Sequence[Source]
    elements: tuple[str, ...]
    reading: Reading
    splitting: Splitting
    max_rows: int | None = None

    def key(self) -> str:
        """Name of the folder: a checksum of all content and options.

        Whole files are read for it, because an edit in the middle of a file leaves its ends, size
        and perhaps its time of change as they were.
        """
        files = {source.path: None for source in (*self.sources, *self.tests)}
        digests = {path: content_digest(path) for path in files}
        payload = {
            "version": VERSION,
            "sources": [[digests[source.path], source.group] for source in self.sources],
            "tests": [[digests[source.path], source.group] for source in self.tests],
            "elements": self.elements,
            "reading": asdict(self.reading),
            "splitting": asdict(self.splitting),
            "max_rows": self.max_rows,
        }
        return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()[:24]


def make(recipe: Recipe, recipe_key: str, home: Path, *, replace: bool = False) -> Artefacts:
    """Read the files once, a few tracers at a time, and write the folder of a recipe.

    It appears under its name when it is whole; of runs that make the same one at the same time the
    first to finish wins.

    Args:
        recipe: What it is made of.
        recipe_key: Its key.
        home: Where artefacts are kept.
        replace: Put it in the place of one that is there.

    Raises:
        ValueError: If a file is bad or a tracer is in two parts.
    """
    home.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{recipe_key}.", dir=home))
    try:
        _write(recipe, recipe_key, part)
        part.chmod(0o755)
        _put_in_place(part, home / recipe_key, replace)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Artefacts(home / recipe_key)


def content_digest(path: Path) -> str:
    """SHA-256 of all bytes of a file with the names beside it, or of the csv files of a folder.

    Args:
        path: File or folder.
    """
    if path.is_file() and path.suffix != ".npy":
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    pattern = "*.csv" if path.is_dir() else f"{path.stem}*"
    total = hashlib.sha256()
    for one in sorted((path if path.is_dir() else path.parent).glob(pattern)):
        with one.open("rb") as file:
            total.update(f"{one.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def _put_in_place(part: Path, final: Path, replace: bool) -> None:
    if replace:  # the old folder leaves in one step
        old = Path(tempfile.mkdtemp(prefix=f".{final.name}.old.", dir=final.parent))
        with suppress(FileNotFoundError):
            final.rename(old / "folder")
        shutil.rmtree(old, ignore_errors=True)
    try:
        part.rename(final)
    except OSError:  # another run was faster
        if not (final / "metadata.json").is_file():
            raise


def _write(recipe: Recipe, key: str, folder: Path) -> None:
    sources = [*recipe.sources, *recipe.tests]
    parts = assign(recipe.sources, recipe.tests, recipe.splitting)
    plan = _Plan(sources, parts, recipe.max_rows)
    with ExitStack() as opened:
        streams = {
            part: opened.enter_context(_PartWriter(folder, part, plan))
            for part in PARTS
            if plan.lengths[part]
        }
        seen: dict[bytes, tuple[str, str]] = {}
        for source, part_of in zip(sources, plan.part_of, strict=True):
            _pour(source, part_of, streams, seen)
    _describe(recipe, key, folder, streams)


def _pour(
    source: Source,
    part_of: list[str],
    streams: dict[str, "_PartWriter"],
    seen: dict[bytes, tuple[str, str]],
) -> None:
    """Append the tracers of a source to their parts."""
    place = 0
    for chunk in source.chunks():
        for (_, start, length), origin in zip(
            chunk.ptr.tolist(), chunk.meta["origin"], strict=True
        ):
            part = part_of[place]
            place += 1
            if part:
                values = chunk.values[start : start + length]
                _check_unseen(values, part, origin, seen)
                streams[part].add(values, chunk.time[start : start + length], origin)


class _Plan:
    """Part of every tracer after the cap on rows, and the lengths that follow."""

    def __init__(
        self, sources: Sequence[Source], parts: Sequence[NDArray[np.str_]], max_rows: int | None
    ) -> None:
        self.width = 4 + len(sources[0].species)
        lengths = [source.ptr[:, 2] for source in sources]
        all_parts, all_lengths = np.concatenate(parts), np.concatenate(lengths)
        for part in PARTS:
            places = np.flatnonzero(all_parts == part)
            all_parts[places[cap(all_lengths[places], max_rows) :]] = ""
        ends = np.cumsum([len(own) for own in lengths])[:-1]
        self.part_of = [own.tolist() for own in np.split(all_parts, ends)]
        self.lengths = {part: all_lengths[all_parts == part].tolist() for part in PARTS}
        numbers = np.arange(len(all_parts))
        self.numbers = {part: numbers[all_parts == part].tolist() for part in PARTS}


class _PartWriter:
    """The files of one part, written row after row without mapping them."""

    def __init__(self, folder: Path, part: str, plan: _Plan) -> None:
        self.folder, self.part = folder, part
        self.lengths, self.numbers = plan.lengths[part], plan.numbers[part]
        self.time: list[NDArray[np.float64]] = []
        self.origin: list[list[Any]] = []
        self.low, self.high = np.full(4, np.inf, "f4"), np.zeros(4, "f4")
        self.file = (folder / f"{part}.npy").open("wb")
        header = {
            "descr": npy.dtype_to_descr(np.dtype("<f4")),
            "fortran_order": False,
            "shape": (sum(self.lengths), plan.width),
        }
        npy.write_array_header_1_0(self.file, header)

    def add(
        self, values: NDArray[np.float32], time: NDArray[np.float64], origin: list[Any]
    ) -> None:
        self.file.write(np.ascontiguousarray(values).data)
        self.time.append(time.copy())
        self.origin.append(origin)
        self.low = np.minimum(self.low, values[:, :4].min(0))
        self.high = np.maximum(self.high, values[:, :4].max(0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        self.file.close()
        if kind is not None:
            return
        lengths = np.array(self.lengths)
        ptr = np.stack([np.array(self.numbers), np.cumsum(lengths) - lengths, lengths], axis=1)
        np.save(self.folder / f"{self.part}_time.npy", np.concatenate(self.time))
        np.save(self.folder / f"{self.part}_tracers.npy", ptr.astype(np.int64))

    def steps(self) -> NDArray[np.float64]:
        """Length of every step in years."""
        return np.concatenate([np.diff(time) for time in self.time])


def _check_unseen(
    values: NDArray[np.float32], part: str, origin: list[Any], seen: dict[bytes, tuple[str, str]]
) -> None:
    file, group, number = origin
    here = f"tracer {number} of group {group} of {file}"
    digest = hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=16).digest()
    before, there = seen.setdefault(digest, (part, here))
    if before != part:
        raise ValueError(
            f"{here} has the same rows as {there}, which is in the {before} split and not in the "
            f"{part} split; a tracer belongs to one split only, so give it once"
        )


def _describe(recipe: Recipe, key: str, folder: Path, streams: dict[str, _PartWriter]) -> None:
    species, train = recipe.sources[0].species, streams["train"]
    columns = {str(place): name for place, name in enumerate((*PHYSICS, *species))}
    write_json(folder / "columns.json", columns)
    write_json(folder / "species.json", list(species))
    matrix = stoichiometric_matrix(species, recipe.elements)
    np.save(folder / "stoichiometric_matrix.npy", matrix)
    low, high = rounded_ranges(train.low, train.high)
    ranges = {
        name: {"min": low[place], "max": high[place], "unit": PHYSICS_UNITS[place]}
        for place, name in enumerate(PHYSICS)
    }
    write_json(folder / "physical_parameter_ranges.json", ranges)
    split = {part: stream.origin for part, stream in streams.items()}
    write_json(folder / "split.json", {"seed": recipe.splitting.seed, **split})
    steps = train.steps()
    dt = float(np.median(steps)) if len(steps) else 0.0
    last = max(float(time[-1]) for time in train.time)
    few = FEW_DIGITS * dt + 2 * np.finfo(np.float32).eps * last
    content = {
        "version": VERSION,
        "key": key,
        "files": sorted({str(source.path) for source in (*recipe.sources, *recipe.tests)}),
        "rows": {part: sum(stream.lengths) for part, stream in streams.items()},
        "tracers": {part: len(stream.lengths) for part, stream in streams.items()},
        "dt_yr": dt,
        "constant_dt": bool(len(steps)) and bool((np.abs(steps - dt) <= few).all()),
        "elements": list(recipe.elements),
        "original_names": list(recipe.sources[0].columns.originals),
        "max_rows": recipe.max_rows,
    }
    write_json(folder / "metadata.json", content)  # last: it marks the folder as whole
