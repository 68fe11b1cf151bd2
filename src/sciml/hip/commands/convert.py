"""``sciml hip convert``: any data file to HDF5."""

import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from sciml.core.files import refuse_existing
from sciml.core.parallel import Tally, progress_bar
from sciml.hip.commands.stats import as_json, tables
from sciml.hip.data.conversion import Conversion, Layout, Limits, convert_records
from sciml.hip.data.files import open_source
from sciml.hip.data.labels import USUAL, Labels


def convert(
    source: Path,
    *,
    out: Path,
    layout: Layout = "packed",
    fmax: float = 50.0,
    skip_defective: bool = False,
    json: bool = False,
    labels: Labels = USUAL,
) -> Conversion:
    """Convert a data file to HDF5 and examine every record.

    Reads HORM LMDB, both HDF5 layouts and extended XYZ; a folder or pattern joins its files.
    Records with a force above --fmax or atoms closer than 0.4 Å are left out and counted. Reports
    how symmetric the Hessians are and how well they obey the rules of translation and rotation.
    The new file appears when it is complete: a conversion that was stopped is repeated from its
    start, over the unfinished ``.part``.

    Args:
        source: File, folder of files or pattern.
        out: HDF5 file to make. It must not exist.
        layout: packed is fast and small (sciml-hip-1); packed-gzip is smaller and slower to read;
            groups is for programs that read HIP-MACE's files. Forces and Hessians are stored in
            float32, coordinates and energies in float64.
        fmax: Largest force on an atom, eV/Å, that is kept.
        skip_defective: Leave out records that are damaged, not finite or inconsistent; otherwise
            the first one stops the conversion.
        json: Write the report to stdout as JSON instead of tables.
        labels: Names of the labels in the source.

    Returns:
        The report, also printed.
    """
    refuse_existing(out)
    opened = open_source(source, labels)
    total = len(opened)
    with progress_bar("records") as show:

        def progress(done: int) -> None:
            if done % 16 == 0 or done == total:
                show(Tally(total, skipped=0, finished=done))

        limits = Limits(fmax=fmax, skip_defective=skip_defective)
        report = convert_records(opened, out, layout, limits, progress)
    if json:
        sys.stdout.write(as_json(asdict(report)))
    else:
        console = Console()
        for table in tables(report.survey, opened):
            console.print(table)
        sys.stdout.write(summary(report) + "\n")
    return report


def summary(report: Conversion) -> str:
    """What happened to the records, in some lines."""
    lines = [f"{report.written} of {report.read} records written to {report.out}"]
    for reason, count in sorted(report.skipped.items()):
        lines.append(f"left out, {_REASONS[reason]}: {count}")
    lines += [f"  {sentence}" for sentence in report.examples]
    if report.survey["labels"].get("hessian"):
        lines += [
            f"largest |H - Hᵀ|: {report.asymmetry:.3g} eV/Å² (made symmetric)",
            "translation rule: mean residual {:.3g}, largest {:.3g} eV/Å²".format(
                *report.translation
            ),
            "rotation rule: mean residual {:.3g}, largest {:.3g} eV/Å".format(*report.rotation),
        ]
    return "\n".join(lines)


_REASONS = {
    "force": "a force too large",
    "distance": "atoms too close",
    "defective": "defective",
}
