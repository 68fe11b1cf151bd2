"""``sciml xec baselines``: how well conventional rules reconstruct the events of files."""

import csv
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from sciml.core.files import write_text
from sciml.core.parallel import Tally, progress_bar
from sciml.core.report import show
from sciml.xec.apply.baselines import SELECTIONS, judge, reconstruct
from sciml.xec.data.branches import Units
from sciml.xec.data.files import find_files
from sciml.xec.data.index import UNITS

Numbers = dict[str, dict[str, dict[str, float]]]
FILE = "baselines.csv"
HEAD = ("quantity", "rule", "selection", "events", "half_width", "unit", "bias", "bias_unit")
LENGTH = ("mm", 10.0)
TIME = ("ps", 1000.0)
RULES = {
    "centroid": "centroid, median depth",
    "fit": "local fit",
    "total": "sum of all photons",
    "faces": "sums of the faces",
    "depth": "sums of the faces x 1, ln w, w",
}
QUANTITIES = {
    "u": ("uvw_u_res_68pct", "uvw_u_bias", LENGTH, LENGTH),
    "v": ("uvw_v_res_68pct", "uvw_v_bias", LENGTH, LENGTH),
    "w": ("uvw_w_res_68pct", "uvw_w_bias", LENGTH, LENGTH),
    "energy": ("energy_rel_68pct", "energy_bias", ("%", 100.0), ("MeV", 1000.0)),
    "time": ("timing_res_68pct", "timing_bias", TIME, TIME),
    "emission time": ("emission_res_68pct", "emission_bias", TIME, TIME),
    "direction": ("angle_resolution_68pct", "", ("deg", 1.0), ("", 1.0)),
}
"""Names of the half-width and of the bias, and what each is shown in."""


class Line(NamedTuple):
    """A rule's result for a quantity and a selection, in the units that are shown."""

    quantity: str
    rule: str
    selection: str
    events: int
    half_width: float
    unit: str
    bias: float | None
    bias_unit: str


def baselines(
    files: str | list[str],
    *,
    train: str | list[str] | None = None,
    out: Path | None = None,
    tree: str = "tree",
    units: Units = UNITS,
) -> dict[str, Any]:
    """Reconstruct events by rules: centroid, local fit, linear energy, mean time, direction.

    The table has half-widths that hold 68 % of the residuals after their median, which is the bias,
    for events of the fiducial volume and for those of them above 48 MeV. Time is that of the first
    interaction; the time of emission and the direction suppose that the gamma came from the origin,
    for which 68 % of the opening angles are below the width.

    Args:
        files: Events to judge the rules on: file, folder, pattern in quotes, or @list with a name
            a line. They need true positions and energies.
        train: Other files, whose events the constants of the rules are fitted on. By default each
            half of the events teaches the other one.
        out: Folder for baselines.csv; by default nothing is written.
        tree: Name of the files' tree.
        units: Factors for files in other units.

    Returns:
        The numbers by selection and rule, also printed, and what the constants come from.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If files cannot be used; says which and why.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise ValueError(f"{out} is no folder; give another --out")
    paths = find_files(files, "FILES")
    teachers = None if train is None else find_files(train, "--train")
    began = time.process_time()
    with progress_bar("chunks") as bar:
        found = reconstruct(
            paths,
            teachers,
            tree=tree,
            units=units,
            progress=lambda done, total: bar(Tally(total, skipped=0, finished=done)),
        )
    used = time.process_time() - began
    numbers = judge(found.columns)
    listed = list(lines(numbers))
    events = len(found.columns["true_u"])
    show(table(f"{events} events, constants from {found.taught}", listed))
    print(f"{used:.0f} s of CPU time")
    if out is not None:
        write_text(out / FILE, as_csv(listed))
        print(f"{out / FILE}: the table")
    return {"taught": found.taught, "cpu_seconds": used, **numbers}


def lines(numbers: Numbers) -> Iterator[Line]:
    """Results in the units that are shown, a quantity after the other.

    Args:
        numbers: Of `judge`.
    """
    for quantity, (width, bias, unit, other) in QUANTITIES.items():
        for rule, words in RULES.items():
            for name in SELECTIONS:
                one = numbers[name][rule]
                if width not in one:
                    continue
                yield Line(
                    quantity,
                    words,
                    name,
                    int(one["events"]),
                    unit[1] * one[width],
                    unit[0],
                    other[1] * one[bias] if bias else None,
                    other[0],
                )


def table(title: str, listed: list[Line]) -> Table:
    """Results for the terminal, both selections beside each other.

    Args:
        title: Heading.
        listed: Of `lines`.
    """
    counts = {line.selection: line.events for line in listed}
    drawn = Table(title=title, title_justify="left")
    drawn.add_column("quantity")
    drawn.add_column("rule")
    for name, words in zip(SELECTIONS, ("fiducial", "above 48 MeV"), strict=True):
        drawn.add_column(f"{words}\n{counts.get(name, 0)} events", justify="right")
        drawn.add_column("bias", justify="right")
    cells: dict[tuple[str, str], dict[str, Line]] = {}
    for line in listed:
        cells.setdefault((line.quantity, line.rule), {})[line.selection] = line
    before = ""
    for (quantity, rule), parts in cells.items():
        if before not in {"", quantity}:
            drawn.add_section()
        shown = [text for name in SELECTIONS for text in _cells(parts.get(name))]
        drawn.add_row("" if quantity == before else quantity, rule, *shown)
        before = quantity
    return drawn


def as_csv(listed: list[Line]) -> str:
    """Results as text, a line for each selection.

    Args:
        listed: Of `lines`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEAD)
    for line in listed:
        bias = "" if line.bias is None else f"{line.bias:.6g}"
        row = line._replace(bias=None)._asdict() | {"half_width": f"{line.half_width:.6g}"}
        writer.writerow([*(row | {"bias": bias}).values()])
    return text.getvalue()


def _cells(line: Line | None) -> tuple[str, str]:
    if line is None:
        return "", ""
    bias = "" if line.bias is None else f"{line.bias:+.3g} {line.bias_unit}"
    return f"{line.half_width:.3g} {line.unit}", bias
