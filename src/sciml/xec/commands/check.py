"""``sciml xec check``: what is in files of events, and whether they can be used."""

import json as json_format
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from sciml.core.parallel import Tally, progress_bar
from sciml.xec.data.branches import Units
from sciml.xec.data.check import DEAD, Survey, survey
from sciml.xec.data.cuts import NO_CUTS, Cuts
from sciml.xec.data.files import find_files
from sciml.xec.data.index import UNITS, Indexing

SHOWN = 20  # dead channels that are listed


def check(
    files: str | list[str],
    *,
    tree: str = "tree",
    cuts: Cuts = NO_CUTS,
    units: Units = UNITS,
    dead: float = DEAD,
    json: bool = False,
) -> dict[str, Any]:
    """Read files once: events, ranges of every branch, invalid values, dead channels.

    Args:
        files: File, folder, pattern in quotes, or @list with a name a line.
        tree: Name of the files' tree.
        cuts: Count the events that these leave out.
        units: Factors for files in other units, which the cuts use.
        dead: Share of the events without a valid count from which a channel is dead.
        json: Write the numbers to stdout as JSON instead of tables.

    Returns:
        The numbers, also printed.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If files cannot be used; says which and why, after the others were shown.
    """
    if not 0 < dead <= 1:
        raise ValueError(f"dead is {dead}; give a share of the events above 0 and up to 1")
    paths = find_files(files, "FILES")
    with progress_bar("files") as show:
        found = survey(
            paths,
            Indexing(tree=tree, cuts=cuts, units=units),
            lambda finished: show(Tally(len(paths), skipped=0, finished=finished)),
        )
    numbers = as_numbers(found, dead)
    if json:
        sys.stdout.write(json_format.dumps(numbers, indent=2) + "\n")
    elif found.files:
        console = Console()
        for table in tables(numbers, found):
            console.print(table)
    if found.bad:
        raise ValueError(f"{len(found.bad)} of {len(paths)} files are bad: {'; '.join(found.bad)}")
    return numbers


def as_numbers(found: Survey, dead: float) -> dict[str, Any]:
    """A survey as plain values.

    Args:
        found: The survey.
        dead: Share of the events from which a channel without counts is dead.
    """
    return {
        "files": {str(file.path): file.entries for file in found.files},
        "events": found.events,
        "dropped": found.dropped,
        "bad": found.bad,
        "dead": found.channels.dead(dead).tolist(),
        "branches": {
            name: {
                "lowest": one.lowest,
                "mean": one.mean,
                "highest": one.highest,
                "invalid": one.invalid / one.values,
                "negative": one.negative / one.values,
                "nan": one.nan,
                "infinite": one.infinite,
            }
            for name, one in found.branches.items()
        },
    }


def tables(numbers: dict[str, Any], found: Survey) -> Iterator[Table]:
    """Terminal tables of a survey.

    Args:
        numbers: The survey as plain values.
        found: The survey.
    """
    channels = numbers["dead"]
    listed = ", ".join(map(str, channels[:SHOWN])) + (", …" if len(channels) > SHOWN else "")
    overview = Table(title="files", title_justify="left", show_header=False)
    overview.add_row("files", f"{len(found.files)}, first {next(iter(numbers['files']))}")
    overview.add_row("events", str(found.events))
    overview.add_row("left out by the cuts", str(found.dropped))
    overview.add_row("dead channels", f"{len(channels)}: {listed}" if channels else "none")
    yield overview
    table = Table(title="branches", title_justify="left", box=None, pad_edge=False)
    table.add_column("branch", min_width=19, overflow="fold")
    for column in ("lowest", "mean", "highest", "invalid", "< 0", "NaN/inf"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, shape in found.shapes.items():
        row = numbers["branches"].get(name)
        if row is None:
            table.add_row(f"{name}{shape}", "no fixed number of values")
            continue
        reals = [f"{row[key]:.4g}" for key in ("lowest", "mean", "highest")]
        shares = [f"{row[key]:.1%}" for key in ("invalid", "negative")]
        table.add_row(f"{name}{shape}", *reals, *shares, str(row["nan"] + row["infinite"]))
    yield table
