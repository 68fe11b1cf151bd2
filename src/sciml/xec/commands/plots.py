"""``sciml xec plots``: figures and tables of reconstructed gammas from files alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciml.core.extras import need
from sciml.core.files import refuse_existing, whole_folder, write_text
from sciml.core.report import house_style, show
from sciml.xec.data.root import RootFile
from sciml.xec.report.gammas import csv_text, fit_rows, judged, plates
from sciml.xec.report.predictions import TABLES, read_predictions, standard
from sciml.xec.report.regions import region_rows, region_table
from sciml.xec.report.resolution import LEAST, Columns
from sciml.xec.report.worst import worst_rows

RESOLUTION = 200  # dots an inch
PICTURES = (".pdf", ".png")


def plots(predictions: Path, *, out: Path, fiducial: bool = True, tree: str = "val_tree") -> Path:
    """Draw everything that reconstructed events with known truths tell.

    Figures of the direction, energy, time and position, of the uncertainties and the worst events
    are PDF and PNG with their numbers as CSV. Tables are resolutions.csv, widths by region with
    bootstrap errors; fits.csv, all fitted curves and why a fit failed; worst.csv.

    Args:
        predictions: Folder of predictions_angle.csv and so on as validation writes them, a file of
            sciml xec infer or sciml predict (.root, .csv, .parquet, .npz), or a folder of .root
            files.
        out: Folder to make. It must not exist.
        fiducial: Only events whose first interaction is in the fiducial volume.
        tree: Name of the tree of .root files.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or has too few events with truths.
    """
    refuse_existing(out)
    every = read_events(predictions, tree)
    columns = judged(every, fiducial)
    where = " in the fiducial volume" if fiducial else ""
    drawn = plates(columns, where)
    if not drawn:
        raise ValueError(
            f"{predictions} has fewer than {LEAST} events with true and reconstructed values{where}"
        )
    rows = region_rows(columns)
    tables = {name: plate.numbers for name, plate in drawn.items()}
    tables |= {"resolutions": rows, "fits": fit_rows(drawn), "worst_events": worst_rows(columns)}
    with whole_folder(out) as folder, house_style():
        for name, plate in drawn.items():
            for suffix in PICTURES:
                plate.figure.savefig(folder / f"{name}{suffix}", dpi=RESOLUTION)
        for name, table in tables.items():
            if table:
                write_text(folder / f"{name}.csv", csv_text(table))
    show(region_table(rows))
    print(f"{', '.join(drawn)} in {out}")
    return out


def read_events(path: Path, tree: str = "val_tree") -> Columns:
    """Reconstructed events with the names of the task, from any file that holds some.

    Args:
        path: See `plots`.
        tree: Name of the tree of ROOT files.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read.
    """
    if path.is_dir():
        files = sorted(path.glob("*.root"))
        if any((path / name).is_file() for name in TABLES) or not files:
            return read_predictions(path)
        parts = [standard(_read_root(file, tree)) for file in files]
        shared = [name for name in parts[0] if all(name in part for part in parts)]
        return {name: np.concatenate([part[name] for part in parts]) for name in shared}
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    if path.suffix == ".root":
        return standard(_read_root(path, tree))
    if path.suffix == ".parquet":
        table = need("pyarrow.parquet", extra="xec").read_table(path)
        return standard({name: table[name].to_numpy() for name in table.column_names})
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return standard(dict(file))
    return read_predictions(path)


def _read_root(path: Path, tree: str) -> Mapping[str, NDArray[Any]]:
    file = RootFile(path, tree)
    try:
        if not file.entries:
            raise ValueError(f"the tree '{tree}' of {path} has no entries")
        numbers = {name: np.dtype(np.float64) for name, b in file.branches.items() if b.width == 1}
        return file.read(numbers, 0, file.entries)
    finally:
        file.close()
