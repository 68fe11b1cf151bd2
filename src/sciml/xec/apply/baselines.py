"""Conventional reconstruction of the events of files, judged by their truths (b events, n in all).

Constants of the rules come from training files; of a single set of files, each half teaches the
other one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from sciml.xec.data.branches import Units
from sciml.xec.data.index import UNITS, FileIndex, Indexing, build_index, missing
from sciml.xec.data.source import RootSource
from sciml.xec.data.statistics import measure
from sciml.xec.metrics.resolution import AXES, VECTOR, resolutions, selection
from sciml.xec.physics.anchors import NANO, Conventional
from sciml.xec.physics.constants import FACES
from sciml.xec.physics.coordinates import to_xyz
from sciml.xec.physics.light_fit import fit_light
from sciml.xec.physics.rules import energy_terms, interaction_time
from sciml.xec.physics.statistics import EventStatistics
from sciml.xec.task.quantities import emission_time, true_columns, true_time

Columns = dict[str, Tensor]
Progress = Callable[[int, int], None]
NEEDED = ("uvw", "energy")
WANTED = (*NEEDED, "timing", "xyz", "vertex", "direction")
POSITIONS = ("centroid", "fit")
"""Rules for the position; time and direction are taken from each."""
ENERGIES = ("total", "faces", "depth")
"""Linear energies: of the sum of all photons, of those of every face, of these × 1, ln w, w."""
SELECTIONS = ("fiducial", "near_signal")
CHUNK = 256  # events that are read at once
BATCH = 64  # events that are reconstructed at once
FEWEST = 3 * len(FACES)  # events to fit a linear energy on: as many as its terms
RIDGE = 1e-4  # relative to the mean square of the terms


@dataclass(frozen=True)
class Reconstruction:
    """Estimates of every rule beside the truths.

    Args:
        columns: ``true_…`` and for every rule ``<rule>_…``, of `POSITIONS` u, v, w in cm, timing
            and emission in ns, ex, ey, ez, of `ENERGIES` energy in GeV, float64 ``(n,)``.
        taught: What the constants were fitted on, for people.
    """

    columns: Mapping[str, Tensor]
    taught: str


def reconstruct(
    files: Sequence[Path],
    train: Sequence[Path] | None = None,
    *,
    tree: str = "tree",
    units: Units = UNITS,
    progress: Progress | None = None,
) -> Reconstruction:
    """Apply all rules to the events of files; some hundred bytes an event stay in memory.

    Args:
        files: Those to judge the rules on.
        train: Files that the constants are fitted on: the delay of weak signals, the median depth
            and the linear energies. By default every second event teaches the others.
        tree: Name of the files' tree.
        units: Factors for files in other units.
        progress: Told how many chunks were read, and of how many.

    Raises:
        FileNotFoundError: If a file is missing.
        BadFileError: If a file cannot be used.
        ValueError: If a file has no true positions and energies, is named twice, or there are too
            few events to fit the constants.
    """
    own = _indexed(files, tree, units)
    if train is None:
        parts = [_half(own, which) for which in (0, 1)]
        taught = "the other half of the same events"
    else:
        parts = [_indexed(train, tree, units), own]
        _check_apart(own, parts[0])
        taught = "{} training events"
    with ExitStack() as opened:
        sources = [_source(part, tree, units) for part in parts]
        for source in sources:
            opened.callback(source.close)
        for source in sources[: 2 if train is None else 1]:
            _check_enough(sum(source.chunk_rows))
        step = _Counter(sum(len(source.chunk_rows) for source in sources), progress)
        first = measure(sources[0])
        other = first if train is not None else measure(sources[1])
        rows = [collect(sources[0], other, step), collect(sources[1], first, step)]
    judged = [rows[1] | energies(rows[1], rows[0])]
    if train is None:
        judged.insert(0, rows[0] | energies(rows[0], rows[1]))
    columns = {name: torch.cat([part[name] for part in judged]) for name in judged[0]}
    return Reconstruction(columns, taught.format(len(rows[0]["true_energy"])))


def collect(
    source: RootSource, statistics: EventStatistics, step: Callable[[], None] | None = None
) -> Columns:
    """Truths, positions, times and directions of all events, and the photons on every face.

    Args:
        source: The events.
        statistics: Constants of the rules.
        step: Called after every chunk.

    Returns:
        Columns as in `Reconstruction`, without energies, and ``face_0`` to ``face_5``.
    """
    conventional = Conventional()
    conventional.set_statistics(statistics)
    # made whole: small tensors between the large ones of every batch would scatter the memory
    columns: Columns = {}
    rows, total = 0, sum(source.chunk_rows)
    for batch in _batches(source, step):
        for name, values in _estimates(conventional, batch, statistics.depth).items():
            if name not in columns:
                columns[name] = torch.empty(total, dtype=torch.float64)
            columns[name][rows : rows + len(values)] = values
        rows += len(batch["npho"])
    return columns


def energies(events: Mapping[str, Tensor], teachers: Mapping[str, Tensor]) -> Columns:
    """Linear energies of events, fitted on others.

    Args:
        events: Columns of `collect`.
        teachers: Those of the events to fit; of these the fiducial ones count.

    Returns:
        ``<rule>_energy`` in GeV, ``(b,)``.

    Raises:
        ValueError: If there are fewer of these than terms.
    """
    used = {name: values[_usable(teachers)] for name, values in teachers.items()}
    _check_enough(len(used["true_energy"]))
    found = {}
    for rule, terms in _terms(used).items():
        weights = fit_linear(terms, used["true_energy"])
        found[f"{rule}_energy"] = _terms(events)[rule] @ weights
    return found


def fit_linear(terms: Tensor, energy: Tensor) -> Tensor:
    """Weights of the terms that make the relative errors small, by ridge regression.

    Args:
        terms: ``(n, t)``.
        energy: GeV, positive, ``(n,)``.

    Returns:
        ``(t,)``.
    """
    shares = terms / energy[:, None]
    scale = shares.square().mean(0).sqrt().clamp(min=1e-30)
    shares = shares / scale
    square = shares.T @ shares / len(shares)
    ridge = RIDGE * torch.eye(len(scale), dtype=terms.dtype)
    weights: Tensor = torch.linalg.solve(square + ridge, shares.mean(0)) / scale
    return weights


def judge(columns: Mapping[str, Tensor]) -> dict[str, dict[str, dict[str, float]]]:
    """Widths and biases of every rule, for fiducial events and those of them above 48 MeV.

    Args:
        columns: Of a `Reconstruction`.

    Returns:
        By selection and rule the numbers of `resolutions` and the number of ``events``. The time
        is that of the interaction; ``emission_res_68pct`` and ``emission_bias`` are of the other.

    Raises:
        ValueError: If no event is in the fiducial volume.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, near_signal in zip(SELECTIONS, (False, True), strict=True):
        kept = selection(columns, near_signal)
        if not kept.any() and not near_signal:
            raise ValueError(
                f"none of the {len(kept)} events of FILES is in the fiducial volume; give others"
            )
        part = {column: values[kept] for column, values in columns.items()}
        found[name] = {rule: _numbers(part, rule) for rule in (*POSITIONS, *ENERGIES)}
    return found


class _Counter:
    """Tells how many chunks were read."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.done, self.progress = total, 0, progress

    def __call__(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _indexed(paths: Sequence[Path], tree: str, units: Units) -> list[FileIndex]:
    files = build_index(paths, Indexing(tree=tree, units=units)).files
    for file in files:
        for name in NEEDED:
            if name not in file.layout:
                raise ValueError(missing(name, file, "sciml xec baselines"))
    return files


def _check_apart(files: Sequence[FileIndex], train: Sequence[FileIndex]) -> None:
    known = {file.path.resolve() for file in train}
    for file in files:
        if file.path.resolve() in known:
            raise ValueError(
                f"{file.path} is to be judged and in --train; leave out --train to let each half "
                "of it teach the other one"
            )


def _check_enough(events: int) -> None:
    if events < FEWEST:
        raise ValueError(
            f"{events} fiducial events are too few to fit the {FEWEST} terms of a linear energy; "
            "give more of them"
        )


def _half(files: Sequence[FileIndex], which: int) -> list[FileIndex]:
    """The same files with every second event."""
    starts = np.cumsum([0, *(file.entries for file in files)])
    return [
        replace(file, kept=(np.arange(file.entries) + start) % 2 == which)
        for file, start in zip(files, starts[:-1].tolist(), strict=True)
    ]


def _source(files: Sequence[FileIndex], tree: str, units: Units) -> RootSource:
    names = [name for name in WANTED if all(name in file.layout for file in files)]
    return RootSource(files, names, CHUNK, units=units, tree=tree)


def _batches(source: RootSource, step: Callable[[], None] | None) -> Iterator[Columns]:
    for chunk in range(len(source.chunk_rows)):
        rows = source.borrow(chunk)
        tensors = {name: torch.from_numpy(np.ascontiguousarray(rows[name])) for name in rows}
        for start in range(0, source.chunk_rows[chunk], BATCH):
            yield {name: values[start : start + BATCH] for name, values in tensors.items()}
        if step is not None:
            step()


def _estimates(conventional: Conventional, batch: Columns, depth: float) -> Columns:
    anchors = conventional(batch["npho"], batch["relative_time"])
    fixed = torch.full_like(anchors.uv[:, :1], depth)
    places = {
        "centroid": torch.cat([anchors.uv, fixed], 1).double(),
        "fit": fit_light(anchors).uvw,
    }
    walk, start = conventional.walk.double(), NANO * batch["time_min"].double()
    columns = true_columns(batch, "interaction")
    if "timing" in batch:
        columns["true_emission"] = true_time(batch, "vertex")
    for rule, uvw in places.items():
        xyz = to_xyz(uvw)
        time = start + interaction_time(anchors, batch["relative_time"], uvw, walk)
        columns |= {f"{rule}_timing": time, f"{rule}_emission": emission_time(time, uvw)}
        columns |= _named(rule, AXES, uvw) | _named(rule, VECTOR, normalize(xyz, dim=1))
    return columns | {f"face_{face}": anchors.faces[:, face] for face in range(len(FACES))}


def _named(rule: str, names: Sequence[str], values: Tensor) -> Columns:
    return {f"{rule}_{name}": one for name, one in zip(names, values.unbind(1), strict=True)}


def _usable(events: Mapping[str, Tensor]) -> Tensor:
    return selection(events, near_signal=False) & (events["true_energy"] > 0)


def _terms(events: Mapping[str, Tensor]) -> Columns:
    """What each linear energy is made of, ``(b, t)``."""
    faces = torch.stack([events[f"face_{face}"] for face in range(len(FACES))], 1)
    terms = (faces.sum(1, keepdim=True), faces, energy_terms(faces, events["fit_w"]))
    return dict(zip(ENERGIES, terms, strict=True))


def _numbers(columns: Mapping[str, Tensor], rule: str) -> dict[str, float]:
    found = resolutions(columns, f"{rule}_")
    events = {"events": float(len(columns["true_energy"]))}
    return events | {name: float(value) for name, value in found.items()}
