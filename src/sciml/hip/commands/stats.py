"""``sciml hip stats``: what a data file holds."""

import json as json_format
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from sciml.core.parallel import Tally, progress_bar
from sciml.hip.data.batch import collate
from sciml.hip.data.files import open_source
from sciml.hip.data.labels import USUAL, Labels
from sciml.hip.data.source import Source
from sciml.hip.data.survey import Survey

BATCH = 32  # records that are in memory together
CUTOFF = 5.0  # Å, of the neighbours that are counted


def stats(
    source: Path,
    *,
    json: bool = False,
    max_records: int | None = None,
    labels: Labels = USUAL,
) -> dict[str, Any]:
    """Show what a data file holds: molecules, energies, forces, Hessians, vibrations.

    Args:
        source: File, folder of files or pattern; LMDB, HDF5 or extended XYZ.
        json: Write the numbers to stdout as JSON instead of tables.
        max_records: Look at so many evenly spaced records; all by default.
        labels: Names of the labels in the file.

    Returns:
        The numbers, also printed.
    """
    opened = open_source(source, labels)
    if max_records is not None and max_records < 1:
        raise ValueError(f"max_records is {max_records}; give at least 1")
    count = min(max_records or len(opened), len(opened))
    chosen = np.linspace(0, len(opened) - 1, count).round().astype(int).tolist()
    survey = Survey(opened.declared_e0)
    with progress_bar("records") as show:
        for start in range(0, count, BATCH):
            records = [opened[index] for index in chosen[start : start + BATCH]]
            survey.update(records, collate(records, CUTOFF))
            show(Tally(count, skipped=0, finished=min(start + BATCH, count)))
    numbers = {
        "files": [str(path) for path in opened.files()],
        "level_of_theory": opened.level_of_theory,
        "records_in_files": len(opened),
        **survey.result(),
    }
    if json:
        sys.stdout.write(as_json(numbers))
    else:
        console = Console()
        for table in tables(numbers, opened):
            console.print(table)
    return numbers


def as_json(content: Mapping[str, Any]) -> str:
    """Plain values as JSON text that ends with a line break."""
    return json_format.dumps(content, indent=2, ensure_ascii=False) + "\n"


def tables(numbers: Mapping[str, Any], source: Source) -> Iterator[Table]:
    """Terminal tables of a survey.

    Args:
        numbers: `Survey.result`.
        source: The molecules it is of.
    """
    files = source.files()
    title = str(files[0]) if len(files) == 1 else f"{len(files)} files from {files[0]}"
    yield _table(title, _molecule_rows(numbers, source))
    if numbers["labels"].get("energy"):
        e0 = numbers["e0"]
        rows = {f"E0 of {symbol}": f"{value:.6f} eV" for symbol, value in e0["ev"].items()}
        if e0["from"] != "the file" and e0["determined"] < len(e0["ev"]):
            rows["note"] = (
                f"the compositions determine only {e0['determined']} combinations of these; the "
                "smallest are shown"
            )
        spread = numbers["interaction_energy_per_atom"]
        rows["energy without E0, per atom"] = f"{spread['mean']:.4f} ± {spread['std']:.4f} eV"
        yield _table(f"energies, E0 from {e0['from']}", rows)
    if numbers["labels"].get("hessian"):
        yield _table("mean |entry| of Hessians", _hessian_rows(numbers["hessian"]))
    if numbers["negative_modes"]:
        rows = {f"{count} negative": str(many) for count, many in numbers["negative_modes"].items()}
        yield _table("molecules by number of negative modes", rows)


def _molecule_rows(numbers: Mapping[str, Any], source: Source) -> dict[str, str]:
    atoms, formulas, labels = numbers["atoms"], numbers["formulas"], numbers["labels"]
    frequent = ", ".join(f"{name} {many}" for name, many in formulas["most_frequent"].items())
    rows = {
        "records": f"{numbers['records']} of {len(source)}",
        "level of theory": source.level_of_theory,
        "with labels": ", ".join(f"{name} {labels[name]}" for name in labels),
        "atoms": f"{atoms['least']} to {atoms['most']}, mean {atoms['mean']:.1f}",
        "elements": ", ".join(f"{name} {many}" for name, many in numbers["elements"].items()),
        "formulas": f"{formulas['different']}: {frequent}",
        "reactions, config types": f"{numbers['reactions']}, {numbers['config_types']}",
        "neighbours within 5 Å": f"{numbers['neighbors_per_atom']:.2f}",
    }
    if labels.get("forces"):
        forces = numbers["forces"]
        rows["force component, rms"] = f"{forces['rms_component']:.4f} eV/Å"
        rows["largest force on an atom"] = f"{forces['largest']:.3f} eV/Å"
    return rows


def _hessian_rows(hessian: Mapping[str, Any]) -> dict[str, str]:
    rows = {
        "all, mean over molecules": f"{hessian['mean_abs']:.4f} eV/Å²",
        "diagonal blocks": f"{hessian['diagonal']:.4f} eV/Å²",
    }
    for name, value in hessian["by_distance"].items():
        rows[f"pairs {name} Å"] = f"{value:.4f} eV/Å²"
    rows["antisymmetric share of pair blocks"] = f"{hessian['antisymmetric_share']:.1%}"
    return rows


def _table(title: str, rows: Mapping[str, str]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    return table
