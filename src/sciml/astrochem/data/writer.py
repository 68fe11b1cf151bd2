"""Our own file of tracers: HDF5 groups, compressed, under its name only when it is whole."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from sciml.astrochem.data.table import TracerTable
from sciml.astrochem.physics.species import ELEMENTS
from sciml.core.files import complete, part_of, refuse_existing

FORMAT = "sciml-astrochem-1"
COLUMNS = ("time", "density", "rad_field", "av", "temperature")
CHUNK = 512  # rows
Attribute = str | int | float | list[str] | None


class GroupWriter:
    """Context that appends tracers to the groups of a new file.

    Everything goes to ``<path>.part``; leaving the context without an exception completes that
    file, syncs it to disk and renames it. A part that an earlier run left is overwritten.

    Args:
        path: The file to make.
        dt_yr: Length of a step in years.
        generator: What made the tracers.
        initial: What they start from.
        seed: Seed of the run.
        network_sha256: Checksum of the chemical network.
        elements: Elements of the network.
        attributes: Further attributes of the file.

    Raises:
        ValueError: If the file exists.
    """

    def __init__(
        self,
        path: Path,
        *,
        dt_yr: float,
        generator: str,
        initial: str = "",
        seed: int | None = None,
        network_sha256: str | None = None,
        elements: Sequence[str] = ELEMENTS,
        attributes: Mapping[str, Attribute] | None = None,
    ) -> None:
        refuse_existing(path)
        self.path = path
        self.attributes: dict[str, Attribute] = {
            "format": FORMAT,
            "dt_yr": float(dt_yr),
            "physics_alignment": "interval",
            "initial": initial,
            "generator": generator,
            "seed": seed,
            "network_sha256": network_sha256,
            "elements": list(elements),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **(attributes or {}),
        }
        self._species: dict[str, tuple[str, ...]] = {}

    def add(self, group: str, table: TracerTable) -> None:
        """Append tracers to a group; the first table makes it.

        Args:
            group: Its name, such as ``train``.
            table: Of the same species in every call; tracers keep their numbers.

        Raises:
            ValueError: If the species differ from those the group was made with.
        """
        if group not in self._species:
            self._make(group, table.species)
        if self._species[group] != table.species:
            raise ValueError(f"group {group} of {self.path} was begun with other species")
        data = np.concatenate(
            [table.time[:, None].astype(np.float32), table.values], axis=1, dtype=np.float32
        )
        ptr = table.ptr.copy()
        ptr[:, 1] += self.file[group]["data"].shape[0]
        new: dict[str, NDArray[Any]] = {
            "data": data,
            "time": table.time,
            "tracer_id": table.tracer,
            "tracer_ptr": ptr,
        }
        for name, rows in new.items():
            dataset = self.file[group][name]
            dataset.resize(dataset.shape[0] + len(rows), axis=0)
            dataset[dataset.shape[0] - len(rows) :] = rows

    def describe(self, group: str, attributes: Mapping[str, Attribute]) -> None:
        """Attach attributes to a group that exists.

        Args:
            group: Its name.
            attributes: Such as the solver's time.
        """
        _attach(self.file[group], attributes)

    def _make(self, name: str, species: tuple[str, ...]) -> None:
        group = self.file.create_group(name)
        labels = [label.encode() for label in (*COLUMNS, *species)]
        group.create_dataset("columns", data=np.array(labels))
        packed = {"compression": "gzip", "shuffle": True}
        width = len(labels)
        group.create_dataset(
            "data", (0, width), "f4", maxshape=(None, width), chunks=(CHUNK, width), **packed
        )
        # the time column of the data has seven digits only
        group.create_dataset("time", (0,), "f8", maxshape=(None,), chunks=(8192,), **packed)
        group.create_dataset("tracer_id", (0,), "i8", maxshape=(None,), chunks=(8192,), **packed)
        group.create_dataset("tracer_ptr", (0, 3), "i8", maxshape=(None, 3), chunks=(1024, 3))
        self._species[name] = species

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = h5py.File(part_of(self.path), "w")
        _attach(self.file, self.attributes)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.file.close()
        if kind is not None:
            return
        complete(self.path)


def write_groups(
    path: Path,
    groups: Mapping[str, TracerTable],
    *,
    dt_yr: float,
    generator: str,
    initial: str = "",
    seed: int | None = None,
    network_sha256: str | None = None,
    elements: Sequence[str] = ELEMENTS,
    attributes: Mapping[str, Attribute] | None = None,
    group_attributes: Mapping[str, Mapping[str, Attribute]] | None = None,
) -> None:
    """Write tables as the groups of a new file; see `GroupWriter`.

    Args:
        path: The file to make.
        groups: Table of every group.
        dt_yr: Length of a step in years.
        generator: What made the tracers.
        initial: What they start from.
        seed: Seed of the run.
        network_sha256: Checksum of the chemical network.
        elements: Elements of the network.
        attributes: Further attributes of the file.
        group_attributes: Attributes of the groups.

    Raises:
        ValueError: If the file exists.
    """
    with GroupWriter(
        path,
        dt_yr=dt_yr,
        generator=generator,
        initial=initial,
        seed=seed,
        network_sha256=network_sha256,
        elements=elements,
        attributes=attributes,
    ) as writer:
        for name, table in groups.items():
            writer.add(name, table)
            writer.describe(name, (group_attributes or {}).get(name, {}))


def _attach(thing: h5py.Group, attributes: Mapping[str, Attribute]) -> None:
    for name, value in attributes.items():
        if value is not None:
            thing.attrs[name] = value
