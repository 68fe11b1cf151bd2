"""Any data file to one of the HDF5 layouts, with every record examined on the way."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from scipy.spatial.distance import pdist

from sciml.hip.data.batch import Batch, collate
from sciml.hip.data.groups import GroupsWriter
from sciml.hip.data.packed import PackedWriter
from sciml.hip.data.record import Record, asymmetry, checked
from sciml.hip.data.source import Source
from sciml.hip.data.survey import Survey
from sciml.hip.data.writer import Header, Writer
from sciml.hip.physics.rules import rule_residuals

Layout = Literal["packed", "packed-gzip", "groups"]
CLOSEST = 0.4  # Å; no two nuclei of a molecule come closer
BATCH = 64  # records that are in memory together
NAMED = 10  # skipped records that are named in the report
CUTOFF = 5.0  # Å, of the neighbours that are counted


@dataclass(frozen=True)
class Limits:
    """Records that are left out of a conversion.

    Args:
        fmax: Largest force on an atom in eV/Å.
        closest: Smallest distance of two atoms in Å.
        skip_defective: Also leave out records that cannot be read or are inconsistent, instead of
            stopping at the first.
    """

    fmax: float = 50.0
    closest: float = CLOSEST
    skip_defective: bool = False


@dataclass
class Conversion:
    """What a conversion found.

    Asymmetries and residuals are in eV/Å², those of the rotation rule in eV/Å.

    Args:
        out: The file that was made.
        read: Records in the source.
        written: Records in the new file.
        skipped: Records left out, by reason.
        examples: The first of them, each a sentence.
        asymmetry: Largest ``|H - Hᵀ|`` before symmetrisation.
        translation: Mean over molecules of the residual of the translation rule, and its largest.
        rotation: The same for the rotation rule, over molecules that have forces.
        survey: What the written molecules are like; see `Survey.result`.
    """

    out: str
    read: int
    written: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    asymmetry: float = 0.0
    translation: tuple[float, float] = (0.0, 0.0)
    rotation: tuple[float, float] = (0.0, 0.0)
    survey: dict[str, Any] = field(default_factory=dict)


def convert_records(
    source: Source,
    out: Path,
    layout: Layout,
    limits: Limits,
    progress: Callable[[int], None] = lambda _: None,
) -> Conversion:
    """Write the good records of a source to a new file.

    The file appears under its name when it is complete; a conversion that was stopped starts
    again from the beginning.

    Args:
        source: Where the records are.
        out: The file to make.
        layout: How they are written.
        limits: Which are left out.
        progress: Called with the number of records read so far.

    Raises:
        ValueError: If the file exists, a record is defective or none is left.
    """
    report = Conversion(str(out), len(source))
    survey = Survey(source.declared_e0, modes=False)
    residuals = _Residuals()
    with _writer(source, out, layout) as writer:
        for records in _good_records(source, limits, report, progress):
            batch = collate(records, CUTOFF)
            survey.update(records, batch)
            residuals.update(batch)
            for record in records:
                writer.add(record)
        report.written = writer.count
    report.translation, report.rotation = residuals.result()
    report.survey = survey.result()
    return report


def _writer(source: Source, out: Path, layout: Layout) -> Writer:
    header = Header(source.declared_e0, source.level_of_theory)
    if layout == "groups":
        return GroupsWriter(out, header)
    return PackedWriter(out, header, compress=layout == "packed-gzip")


def _good_records(
    source: Source, limits: Limits, report: Conversion, progress: Callable[[int], None]
) -> Iterator[list[Record]]:
    good: list[Record] = []
    for index in range(len(source)):
        record = _examine(source, index, limits, report)
        if record is not None:
            good.append(record)
        if len(good) == BATCH:
            yield good
            good = []
        progress(index + 1)
    if good:
        yield good


def _examine(source: Source, index: int, limits: Limits, report: Conversion) -> Record | None:
    where = source.where(index)
    try:
        record = source.raw(index)
        size = 3 * len(record.numbers)
        matrix = record.hessian
        record = checked(record, where)
    except ValueError as error:
        if not limits.skip_defective:
            raise ValueError(f"{error} (--skip_defective leaves such records out)") from None
        _skip(report, "defective", str(error))
        return None
    if record.forces is not None:
        force = float((record.forces**2).sum(1).max()) ** 0.5
        if force > limits.fmax:
            _skip(report, "force", f"{where}: a force of {force:.1f} eV/Å")
            return None
    if size > 3:
        distance = float(pdist(record.positions).min())
        if distance < limits.closest:
            _skip(report, "distance", f"{where}: atoms {distance:.2f} Å apart")
            return None
    if matrix is not None:
        found = asymmetry(matrix.astype(float).reshape(size, size))
        report.asymmetry = max(report.asymmetry, found)
    return record


def _skip(report: Conversion, reason: str, sentence: str) -> None:
    report.skipped[reason] += 1
    if len(report.examples) < NAMED:
        report.examples.append(sentence)


class _Residuals:
    """Running mean and maximum of the rule residuals."""

    def __init__(self) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64)
        self.most = torch.zeros(2, dtype=torch.float64)
        self.counts = torch.zeros(2, dtype=torch.float64)

    def update(self, batch: Batch) -> None:
        values = rule_residuals(batch["hessian"], batch["pos"], batch["forces"], batch)
        counted = torch.stack([batch["w_hessian"] > 0, batch["w_hessian"] * batch["w_forces"] > 0])
        values = torch.where(counted.T, values, 0.0)
        self.sums += values.sum(0)
        self.most = torch.maximum(self.most, values.amax(0))
        self.counts += counted.sum(1)

    def result(self) -> tuple[tuple[float, float], tuple[float, float]]:
        means = (self.sums / self.counts.clamp(min=1)).tolist()
        most = self.most.tolist()
        return (means[0], most[0]), (means[1], most[1])
