"""Groups of tracers in HDF5 files: pandas frames and plain datasets, by h5py alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sciml.astrochem.data.columns import shorten
from sciml.astrochem.data.grid import Grid

FILTERS = {  # registered with the HDF Group
    305: "lzo",
    307: "bzip2",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32015: "zstd",
    32026: "blosc2",
}
MATRIX = "stoichiometric_matrix"


@dataclass
class Group:
    """A group of an HDF5 file that holds tracers.

    Args:
        name: Its name.
        grid: Its columns.
        is_frame: Written by pandas.
        ptr: Number, first row and length of every tracer, if they are stored.
        tracer: Number of the tracer of every row, if it is stored.
        time: Time of every row in full precision, if it is stored.
        matrix: Stored stoichiometric matrix.
        attributes: Those of the file and of the group.
    """

    name: str
    grid: Grid
    is_frame: bool
    ptr: NDArray[np.int64] | None = None
    tracer: NDArray[np.int64] | None = None
    time: NDArray[np.float64] | None = None
    matrix: NDArray[np.float64] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file to read.

    Args:
        path: The file.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is damaged or cut short, copy it again ({reason.rstrip('.')})"
        ) from error


def read_groups(path: Path) -> list[Group]:
    """The groups of a file that hold tracers, in the order of their names.

    Args:
        path: The file.

    Raises:
        ValueError: If there is none, or one cannot be read.
    """
    with opened(path) as file:
        names = ["/"]
        file.visititems(lambda name, item: names.append(name) if _is_group(item) else None)
        frames = [name for name in names if {"axis0", "axis1"} <= set(file[name])]
        plain = [name for name in names if {"columns", "data"} <= set(file[name])]
        tables = [name for name in names if _pandas_type(file[name]) == "frame_table"]
        if tables:
            raise ValueError(
                f"{path} holds {shorten(tables)} in the table format of pandas; "
                "write it again with format='fixed'"
            )
        if not frames and not plain:
            raise ValueError(
                f"{path} holds no tracers: no group has the datasets columns and data, "
                "and none is a frame of pandas"
            )
        groups = [_open_frame(path, file, name) for name in frames]
        return groups + [_open_plain(path, file, name) for name in plain]


class PlainGrid(Grid):
    """Dataset ``data`` of a group.

    Args:
        path: The file.
        group: The group.
        labels: Names of the columns.
        rows: Number of rows.
    """

    def __init__(self, path: Path, group: str, labels: Sequence[str], rows: int) -> None:
        super().__init__(path, labels, rows)
        self.group = group

    def read(self, first: int, last: int, places: Sequence[int]) -> NDArray[Any]:
        with opened(self.path) as file:
            rows: NDArray[Any] = file[self.group]["data"][first:last]
        return rows[:, list(places)]


class FrameGrid(Grid):
    """Blocks of a pandas frame, put together by their labels.

    Args:
        path: The file.
        group: The group.
        labels: Names of the columns.
        rows: Number of rows.
        blocks: For every column the number of its block and the place in it.
    """

    def __init__(
        self,
        path: Path,
        group: str,
        labels: Sequence[str],
        rows: int,
        *,
        blocks: Sequence[tuple[int, int]],
    ) -> None:
        super().__init__(path, labels, rows)
        self.group = group
        self.blocks = list(blocks)

    def read(self, first: int, last: int, places: Sequence[int]) -> NDArray[Any]:
        homes = [self.blocks[place] for place in places]
        numbers = sorted({block for block, _ in homes})
        with opened(self.path) as file:
            parts = [file[self.group][f"block{number}_values"][first:last] for number in numbers]
        kind = np.result_type(*[part.dtype for part in parts]) if parts else np.float32
        values = np.empty((last - first, len(homes)), dtype=kind)
        for number, part in zip(numbers, parts, strict=True):
            columns = [column for column, (block, _) in enumerate(homes) if block == number]
            values[:, columns] = part[:, [homes[column][1] for column in columns]]
        return values


def _open_frame(path: Path, file: h5py.File, name: str) -> Group:
    group = file[name]
    where = f"group {name} of {path}"
    _require_readable(group, where)
    labels = _labels(group["axis0"], where)
    rows = len(group["axis1"])
    home: dict[str, tuple[int, int]] = {}
    number = 0
    while f"block{number}_items" in group:
        items = _labels(group[f"block{number}_items"], where)
        values = group.get(f"block{number}_values")
        if values is None or values.shape != (rows, len(items)):
            raise ValueError(
                f"block {number} of {where} does not have {rows} rows of {len(items)} columns; "
                "write the frame again"
            )
        home |= {label: (number, place) for place, label in enumerate(items)}
        number += 1
    lost = [label for label in labels if label not in home]
    if lost:
        raise ValueError(f"{where} has no block for its columns {shorten(lost)}")
    grid = FrameGrid(path, name, labels, rows, blocks=[home[label] for label in labels])
    return Group(name, grid, True, matrix=_matrix(file, group), attributes=_attributes(file, group))


def _open_plain(path: Path, file: h5py.File, name: str) -> Group:
    group = file[name]
    where = f"group {name} of {path}"
    _require_readable(group, where)
    labels = _labels(group["columns"], where)
    data = group["data"]
    if data.ndim != 2 or data.shape[1] != len(labels):
        raise ValueError(
            f"{where} has {len(labels)} names of columns for data of the shape {data.shape}"
        )
    stored = {key: group[key][:] for key in ("tracer_ptr", "tracer_id", "time") if key in group}
    ptr, tracer, time = (stored.get(key) for key in ("tracer_ptr", "tracer_id", "time"))
    for key, column in (("tracer_id", tracer), ("time", time)):
        if column is not None and column.shape != (len(data),):
            raise ValueError(
                f"{key} of {where} has the shape {column.shape} for {len(data)} rows of data"
            )
    if ptr is not None:
        _check_extents(ptr, len(data), where)
    return Group(
        name if name != "/" else path.stem,
        PlainGrid(path, name, labels, len(data)),
        False,
        ptr,
        tracer,
        time,
        _matrix(file, group),
        _attributes(file, group),
    )


def _check_extents(ptr: NDArray[np.int64], rows: int, where: str) -> None:
    if ptr.ndim != 2 or ptr.shape[1] != 3:
        raise ValueError(f"tracer_ptr of {where} has the shape {ptr.shape}; it has to be [n, 3]")
    order = np.argsort(ptr[:, 1], kind="stable")
    ends = ptr[order, 1] + ptr[order, 2]
    inside = (ptr[:, 1:] >= 0).all() and (ends <= rows).all()
    if not inside or (ptr[order, 1][1:] < ends[:-1]).any():
        raise ValueError(
            f"tracer_ptr of {where} names rows that overlap or lie outside its {rows} rows; "
            "its columns have to be number, first row and length"
        )


def _is_group(item: object) -> bool:
    return isinstance(item, h5py.Group)


def _pandas_type(group: h5py.Group) -> str:
    kind = group.attrs.get("pandas_type", b"")
    return kind.decode() if isinstance(kind, bytes) else str(kind)


def _require_readable(group: h5py.Group, where: str) -> None:
    for name, item in group.items():
        if not isinstance(item, h5py.Dataset):
            continue
        plist = item.id.get_create_plist()
        for place in range(plist.get_nfilters()):
            code = plist.get_filter(place)[0]
            if not h5py.h5z.filter_avail(code):
                raise ValueError(
                    f"{name} of {where} is compressed with {FILTERS.get(code, f'filter {code}')}, "
                    "which h5py cannot read; write the file again with gzip (zlib) compression"
                )


def _labels(dataset: h5py.Dataset, where: str) -> list[str]:
    labels = dataset[:]
    if labels.dtype.kind not in "SOU":
        raise ValueError(f"the columns of {where} have numbers for names")
    return [str(x.decode() if isinstance(x, bytes) else x).strip() for x in labels.tolist()]


def _matrix(file: h5py.File, group: h5py.Group) -> NDArray[np.float64] | None:
    for place in (group, file):
        if MATRIX in place:
            matrix: NDArray[np.float64] = place[MATRIX][:].astype(np.float64)
            return matrix
    return None


def _attributes(file: h5py.File, group: h5py.Group) -> dict[str, Any]:
    found = {**dict(file.attrs), **dict(group.attrs)}
    return {name: _plain(value) for name, value in found.items() if not _is_internal(name, value)}


def _is_internal(name: str, value: object) -> bool:
    return isinstance(value, h5py.Empty) or name.isupper() or name.endswith("_variety")


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    return value.item() if isinstance(value, np.generic) else value
