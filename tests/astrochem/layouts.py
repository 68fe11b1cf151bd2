"""Files of tracers in the layouts of others, written by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sciml.astrochem.data.table import TracerTable
from sciml.astrochem.physics.constants import PHYSICS

EXTRAS = ("dustTemp", "dstep", "zeta", "SURFACE", "BULK")


def labels_of(table: TracerTable) -> list[str]:
    return ["Index", "Model", "Time", *PHYSICS, *table.species]


def columns_of(table: TracerTable) -> NDArray[np.float64]:
    """All columns of the clean layout, ``(N, 7 + S)``."""
    index = np.arange(len(table))
    front = np.stack([index, table.tracer, table.time], axis=1)
    return np.concatenate([front, table.values.astype(np.float64)], axis=1)


def write_frame(
    path: Path,
    key: str,
    labels: Sequence[str],
    values: NDArray[Any],
    *,
    split: Sequence[Sequence[str]] | None = None,
) -> None:
    """A frame as pandas stores it with ``format="fixed"``.

    Whole numbers and floats are separate blocks; ``split`` gives the labels of every block.
    """
    whole = [label for label in ("Index", "Model", "Tracer") if label in labels]
    blocks = split or [[label for label in labels if label not in whole], whole]
    with h5py.File(path, "a") as file:
        group = file.create_group(key)
        group.attrs["pandas_type"] = np.bytes_(b"frame")
        group.attrs["CLASS"] = np.bytes_(b"GROUP")
        group.create_dataset("axis0", data=np.array([label.encode() for label in labels]))
        group.create_dataset("axis1", data=np.arange(len(values)))
        for number, block in enumerate(blocks):
            places = [list(labels).index(label) for label in block]
            kind = "i8" if set(block) <= set(whole) else "f4"
            names = np.array([label.encode() for label in block])
            group.create_dataset(f"block{number}_items", data=names)
            group.create_dataset(
                f"block{number}_values", data=values[:, places].astype(kind), compression="gzip"
            )


def write_clean(path: Path, key: str, table: TracerTable) -> Path:
    """Layout of a preprocessed frame."""
    write_frame(path, key, labels_of(table), columns_of(table))
    return path


def write_plain(path: Path, groups: dict[str, TracerTable], **left_out: bool) -> Path:
    """Plain groups, columns in an order of their own; ``tracer_ptr=False`` leaves it out."""
    labels = ["time", "density", "rad_field", "av", "temperature"]
    with h5py.File(path, "w") as file:
        for name, table in groups.items():
            group = file.create_group(name)
            names = [*table.species[::-1], *labels]
            values = [table.values[:, :3:-1], table.time[:, None], table.values[:, :4]]
            group["columns"] = np.array([label.encode() for label in names])
            group["data"] = np.concatenate(values, axis=1).astype(np.float32)
            group["tracer_id"] = table.tracer
            if left_out.get("tracer_ptr", True):
                group["tracer_ptr"] = table.ptr
    return path


def write_older(path: Path, table: TracerTable) -> Path:
    """The older variant of plain groups: the tracer is a column, the field comes last."""
    names = ["tracer_id", "time_years", "density", "temperature", "av", "rad_field", *table.species]
    physics = table.values[:, [0, 3, 2, 1]]
    parts = [table.tracer[:, None], table.time[:, None], physics, table.values[:, 4:]]
    with h5py.File(path, "w") as file:
        group = file.create_group("large")
        group["columns"] = np.array([label.encode() for label in names])
        group["data"] = np.concatenate(parts, axis=1).astype(np.float32)
    return path


def write_array(path: Path, table: TracerTable) -> Path:
    """An npy file with the names of its columns beside it."""
    names = {str(place): label for place, label in enumerate(labels_of(table))}
    np.save(path, columns_of(table))
    path.with_name(f"{path.stem}_columns.json").write_text(json.dumps(names))
    return path


def write_text(folder: Path, table: TracerTable) -> Path:
    """A folder with the output of UCLCHEM, one file a tracer."""
    folder.mkdir()
    head = "Time,Density,gasTemp,dustTemp,av,radfield,zeta,point"
    for place, (_, start, length) in enumerate(table.ptr.tolist()):
        part = table.values[start : start + length].astype(np.float64)
        density, field, visual, temperature = part[:, :4].T
        ones = np.ones(length)
        time = table.time[start : start + length]
        front = np.stack([time, density, temperature, temperature, visual, field, ones, ones], 1)
        extra = part[:, 4:5]  # the sum of the surface, as UCLCHEM writes it
        np.savetxt(
            folder / f"cloud{place:02}.csv",
            np.concatenate([front, part[:, 4:], extra], axis=1),
            fmt="%.9e",
            delimiter=",",
            header=", ".join([head, *table.species, "SURFACE"]),
            comments="",
        )
    return folder
