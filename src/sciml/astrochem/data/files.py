"""Opening files of tracers, whatever their layout.

Known by their content: frames of pandas and plain groups in HDF5, our own groups, arrays with named
columns, and the text output of UCLCHEM.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciml.astrochem.data.arrays import ArrayGrid, TextGrid
from sciml.astrochem.data.columns import find_columns, shorten
from sciml.astrochem.data.grid import Grid
from sciml.astrochem.data.hdf5 import Group, read_groups
from sciml.astrochem.data.source import Alignment, Reading, Source
from sciml.astrochem.data.table import TracerTable, concatenate
from sciml.astrochem.data.writer import FORMAT
from sciml.astrochem.physics.species import ELEMENTS, check_matrix

HDF5, NUMPY = b"\x89HDF\r\n\x1a\n", b"\x93NUMPY"  # first bytes of the formats
UCLCHEM = "uclchem"  # generator whose names of species are structural
RAW = {"dusttemp", "dstep", "zeta"}  # columns that only outputs of simulations have
READING = Reading()


def read_table(
    path: str | Path, groups: Sequence[str] | None = None, reading: Reading = READING
) -> dict[str, TracerTable]:
    """The tracers of a file in memory, a table for every group.

    Args:
        path: A file of any known layout, or a folder of csv files.
        groups: Names of the groups to read; all by default.
        reading: How it is read.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it cannot be understood; says where.
    """
    sources = choose_groups(open_file(path, reading), groups)
    tables = {}
    for source in sources:
        chunks = list(source.chunks())
        if not chunks:
            raise ValueError(f"{source.where} holds no tracers")
        table = concatenate(chunks)
        ids = source.ptr[:, 0]
        table.ptr[:, 0], table.tracer = ids, np.repeat(ids, table.ptr[:, 2])
        tables[source.group] = table
    return tables


def open_file(path: str | Path, reading: Reading = READING) -> list[Source]:
    """The groups of a file; only headers are read.

    Args:
        path: A file of any known layout, or a folder of csv files.
        reading: How it is read.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it cannot be understood; says where.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; name a file of tracers")
    magic = b"" if path.is_dir() else _first_bytes(path)
    if magic.startswith(HDF5):
        return [_from_group(path, group, reading) for group in read_groups(path)]
    if magic.startswith(NUMPY):
        grid: Grid = ArrayGrid(path)
        matrix = path.with_name(f"{path.stem}_stoichiometric_matrix.npy")
        stored = np.load(matrix) if matrix.is_file() else None
        return [_make(path, path.stem, grid, reading, matrix=stored)]
    if b"\0" in magic:
        raise ValueError(f"{path} is no file of tracers: neither HDF5, npy nor csv")
    text = TextGrid(path)
    source = _make(path, path.stem, text, reading)
    source.floors_field = True
    source.stored_tracer = _text_tracers(source, text)
    return [source]


def choose_groups(sources: Sequence[Source], groups: Sequence[str] | None) -> list[Source]:
    """Sources whose group is named.

    Args:
        sources: Groups of one or several files.
        groups: Their names; None: all.

    Raises:
        ValueError: If a name does not occur.
    """
    names = [source.group for source in sources]
    lost = [name for name in groups or () if name not in names]
    if lost:
        files = shorten(sorted({str(source.path) for source in sources}))
        raise ValueError(f"{files} has no group {shorten(lost)}; it has {shorten(names)}")
    return [source for source in sources if groups is None or source.group in groups]


def _from_group(path: Path, group: Group, reading: Reading) -> Source:
    is_own = group.attributes.get("format") == FORMAT
    has_own_names = is_own and group.attributes.get("generator", UCLCHEM) != UCLCHEM
    words = {label.replace("_", "").lower() for label in group.grid.labels}
    is_raw = group.is_frame and bool(words & RAW)
    source = _make(
        path,
        group.name,
        group.grid,
        reading,
        rename=not has_own_names,
        is_raw=is_raw,
        matrix=group.matrix,
        attributes=group.attributes,
    )
    source.is_frame, source.floors_field = group.is_frame, is_raw
    source.stored_ptr, source.stored_tracer = group.ptr, group.tracer
    source.stored_time = group.time
    return source


def _make(
    path: Path,
    name: str,
    grid: Grid,
    reading: Reading,
    *,
    rename: bool = True,
    is_raw: bool = False,
    matrix: NDArray[Any] | None = None,
    attributes: dict[str, Any] | None = None,
) -> Source:
    attributes = attributes or {}
    where = f"group {name} of {path}"
    elements = tuple(reading.elements or attributes.get("elements") or ELEMENTS)
    columns = find_columns(
        grid.labels,
        where,
        elements,
        rename=rename,
        normalise_case=reading.normalise_case,
    )
    if matrix is not None:
        try:
            check_matrix(columns.in_file_order, elements, matrix)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    default: Alignment = "state" if is_raw else "interval"
    alignment = reading.physics_alignment or attributes.get("physics_alignment", default)
    if alignment not in {"interval", "state"}:
        raise ValueError(f"{where} has the physics_alignment {alignment}; it is interval or state")
    return Source(
        path,
        name,
        grid,
        columns,
        alignment,
        reading.on_bad,
        elements,
        is_raw=is_raw,
        attributes=attributes,
    )


def _text_tracers(source: Source, grid: TextGrid) -> NDArray[np.int64]:
    """Number of the tracer of every row: that of its file, or of the column that tells."""
    part = np.repeat(np.arange(len(grid.parts)), grid.lengths)
    if source.columns.tracer is None:
        return part
    column = grid.column(source.columns.tracer).astype(np.int64)
    if len(grid.parts) == 1:
        return column
    pairs = np.stack([part, column], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)
