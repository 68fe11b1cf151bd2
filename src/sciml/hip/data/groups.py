"""The HDF5 layout of HIP-MACE: one group a molecule, ``config_batch_k/config_j``."""

import json
import re
from bisect import bisect_right
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sciml.hip.data.handle import DAMAGED, Handle, open_hdf5
from sciml.hip.data.labels import USUAL, Labels
from sciml.hip.data.record import Record
from sciml.hip.data.source import Source
from sciml.hip.data.writer import Writer

LABELS = ("energy", "forces", "hessian")
BATCH = 1000  # molecules in a group of the files written here
SHAPES = {"forces": (-1, 3), "hessian": (-1,)}  # of the arrays in `properties`
LISTED = 100_000  # largest group whose members are listed when its numbers look complete


class GroupsSource(Source):
    """Records of a file in the layout of HIP-MACE.

    Args:
        path: The file.
        labels: Names of the labels in ``properties``.

    Raises:
        ValueError: If there is no ``config_batch_k`` group.
    """

    def __init__(self, path: Path, labels: Labels = USUAL) -> None:
        super().__init__(path, labels)
        self._handle = Handle(partial(open_hdf5, path))
        with open_hdf5(path) as file:
            numbers = _numbers(file, "config_batch_")
            if not numbers:
                found = ", ".join(sorted(file)[:8]) or "nothing"
                raise ValueError(
                    f"{path} has no 'format' attribute and no group 'config_batch_0'; found: "
                    f"{found}. It holds no molecules that this program knows"
                )
            self._batches = [f"config_batch_{number}" for number in numbers]
            self._members = [_members(file[name]) for name in self._batches]
            attributes = dict(file.attrs)
        self._ends = list(accumulate(len(members) for members in self._members))
        theory = attributes.get("level_of_theory", attributes.get("method", "unknown"))
        self._theory = theory.decode() if isinstance(theory, bytes) else str(theory)
        stored = json.loads(attributes.get("e0", "{}"))
        self._e0 = {int(number): float(energy) for number, energy in stored.items()}

    def __len__(self) -> int:
        return self._ends[-1]

    def raw(self, index: int) -> Record:
        try:
            return self._record(index, self._group(index))
        except (OSError, KeyError) as error:
            reason = str(error).strip("'\"")
            raise ValueError(f"{self.where(index)} cannot be read ({reason}); {DAMAGED}") from None

    def names(self, index: int) -> list[str]:
        return list(self._group(index)["properties"])

    def sizes(self) -> NDArray[np.int64]:
        file = self._handle.get()
        sizes = [
            h5py.h5d.open(file.id, f"{self._name(index)}/atomic_numbers".encode()).shape[0]
            for index in range(len(self))
        ]
        return np.array(sizes, dtype=np.int64)

    def numbers(self, index: int) -> NDArray[np.int64]:
        numbers: NDArray[np.int64] = self._group(index)["atomic_numbers"][:].astype(np.int64)
        return numbers

    def reaction(self, index: int) -> int:
        return int(_value(self._group(index), "rxn", -1))

    @property
    def declared_e0(self) -> dict[int, float] | None:
        """The ``e0`` attribute, which only files written here have."""
        return dict(self._e0) or None

    @property
    def level_of_theory(self) -> str:
        """The ``level_of_theory`` or ``method`` attribute."""
        return self._theory

    def close(self) -> None:
        self._handle.close()

    def _record(self, index: int, group: h5py.Group) -> Record:
        where = self.where(index)
        _refuse_periodic(group, where)
        properties = group["properties"]
        names = self._label_names(list(properties), where)
        weights = [
            0.0 if name is None else _weight(group, name, usual)
            for name, usual in zip(names, LABELS, strict=True)
        ]
        energy, forces, hessian = (
            properties[name][()] if name is not None and weight != 0 else None
            for name, weight in zip(names, weights, strict=True)
        )
        return Record(
            numbers=group["atomic_numbers"][:],
            positions=group["positions"][:],
            energy=None if energy is None else float(np.asarray(energy).item()),
            forces=forces,
            hessian=hessian,
            weight=float(_value(group, "weight", 1.0)),
            energy_weight=weights[0],
            forces_weight=weights[1],
            hessian_weight=weights[2],
            config_type=_text(_value(group, "config_type", b"Default")),
            identifier=int(_value(group, "id", index)),
            reaction=int(_value(group, "rxn", -1)),
        )

    def _group(self, index: int) -> h5py.Group:
        return self._handle.get()[self._name(index)]

    def _name(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {self.path}, which has {len(self)}")
        batch = bisect_right(self._ends, index)
        local = index - (self._ends[batch - 1] if batch else 0)
        return f"{self._batches[batch]}/config_{self._members[batch][local]}"


class GroupsWriter(Writer):
    """Write records in the layout of HIP-MACE; forces and Hessians are stored in float32."""

    def add(self, record: Record) -> None:
        batch, member = divmod(self.count, BATCH)
        group = self.file.create_group(f"config_batch_{batch}/config_{member}")
        self.count += 1
        group["atomic_numbers"] = record.numbers
        group["positions"] = record.positions
        group["config_type"] = record.config_type.encode()
        group["weight"] = record.weight
        group["id"] = record.identifier
        group["rxn"] = record.reaction
        for name in ("cell", "pbc"):
            group[name] = b"None"
        properties = group.create_group("properties")
        weights = group.create_group("property_weights")
        labels = {
            "energy": (record.energy, record.energy_weight),
            "forces": (record.forces, record.forces_weight),
            "hessian": (record.hessian, record.hessian_weight),
        }
        for name, (label, weight) in labels.items():
            weights[name] = 0.0 if label is None else float(weight)
            if isinstance(label, np.ndarray):
                properties[name] = label.astype(np.float32).reshape(SHAPES[name])
            elif label is not None:
                properties[name] = label

    def flush(self) -> None:
        self.file.flush()


def _numbers(group: h5py.Group, prefix: str) -> list[int]:
    # listing is by letters: config_10 comes before config_2
    names = (re.fullmatch(rf"{prefix}(\d+)", name) for name in group)
    return sorted(int(name[1]) for name in names if name)


def _members(batch: h5py.Group) -> range | list[int]:
    # a listing takes seconds in a huge group; there, first and last show that none is missing
    count = len(batch)
    huge = count > LISTED and "config_0" in batch and f"config_{count - 1}" in batch
    return range(count) if huge else _numbers(batch, "config_")


def _weight(group: h5py.Group, name: str, usual: str) -> float:
    weights = group.get("property_weights", {})
    return float(weights[name][()] if name in weights else _value(weights, usual, 1.0))


def _value(group: Any, name: str, absent: Any) -> Any:
    return group[name][()] if name in group else absent


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _refuse_periodic(group: h5py.Group, where: str) -> None:
    periodic = _value(group, "pbc", b"None")
    if not isinstance(periodic, bytes) and np.any(periodic):
        raise ValueError(
            f"{where} is periodic; Hessians of periodic cells are not supported: remove its cell "
            "or the record"
        )
