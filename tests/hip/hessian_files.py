"""Small molecules of springs, with closed-form labels, written in every format the readers know."""

import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import h5py
import lmdb
import numpy as np
import torch
from ase import Atoms
from ase.io import write
from numpy.typing import NDArray
from torch import Tensor

from sciml.hip.data.record import Record

STIFFNESS, LENGTH = 3.0, 1.5  # eV/Å² and Å of the spring between every two atoms
E0 = {1: -16.713167, 6: -1035.520996, 7: -1489.140607, 8: -2046.242508}  # eV, hip.md 2.4
FORMULAS = ((6, 1, 1, 1, 1), (8, 1, 1), (6, 8), (7, 1, 1, 1), (6, 1, 1, 8), (6, 6, 1, 1))


def spring_record(numbers: Sequence[int], seed: int, identifier: int = 0) -> Record:
    """A molecule with ``E = ½ k Σ (r - r₀)²`` over all pairs, in float64.

    Positions, forces and Hessian are rounded to float32 values, which every format keeps exactly.
    """
    rng = np.random.default_rng(seed)
    count = len(numbers)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3)[rng.permutation(27)]
    positions = _single(1.3 * grid[:count] + rng.normal(scale=0.1, size=(count, 3)))
    energy, forces, hessian = springs(positions)
    return Record(
        numbers=np.array(numbers, dtype=np.int64),
        positions=positions,
        energy=energy + sum(E0[number] for number in numbers),
        forces=_single(forces),
        hessian=_single(hessian),
        identifier=identifier,
        reaction=identifier // 2,
    )


def springs(positions: NDArray[np.float64]) -> tuple[float, NDArray[np.float64], Any]:
    """Energy, forces and Hessian; block ij is ``-k [(1 - r₀/r) I + r₀/r uuᵀ]``."""
    count = len(positions)
    energy, forces, hessian = 0.0, np.zeros((count, 3)), np.zeros((count, 3, count, 3))
    for i in range(count):
        for j in range(count):
            if i == j:
                continue
            offset = positions[j] - positions[i]
            r = np.linalg.norm(offset)
            u = offset / r
            energy += STIFFNESS * (r - LENGTH) ** 2 / 4  # every pair is met twice
            forces[i] += STIFFNESS * (r - LENGTH) * u
            block = STIFFNESS * ((1 - LENGTH / r) * np.eye(3) + LENGTH / r * np.outer(u, u))
            hessian[i, :, j] = -block
            hessian[i, :, i] += block
    return float(energy), forces, hessian.reshape(3 * count, 3 * count)


def spring_records(count: int = 12) -> list[Record]:
    """Molecules of six formulas, two to five atoms."""
    return [spring_record(FORMULAS[i % 6], seed=i, identifier=i) for i in range(count)]


def molecule_fields(record: Record) -> dict[str, Tensor]:
    """The tensors of a HORM record, in the order of the original files."""
    numbers = record.numbers
    assert record.energy is not None
    atomic = sum(E0.get(int(number), 0.0) for number in numbers)
    return {
        "pos": torch.tensor(record.positions, dtype=torch.float32),
        "rxn": torch.tensor(record.reaction),
        "energy": torch.tensor(record.energy, dtype=torch.float32),
        "ae": torch.tensor(record.energy - atomic, dtype=torch.float32),
        "forces": torch.tensor(record.forces, dtype=torch.float32),
        "charges": torch.tensor(numbers, dtype=torch.int32),
        "one_hot": torch.tensor(numbers[:, None] == np.array([1, 6, 7, 8, 9])).float(),
        "natoms": torch.tensor(len(numbers)),
        "hessian": torch.tensor(record.hessian, dtype=torch.float32).flatten(),
    }


def pickled_molecule(fields: Mapping[str, object]) -> bytes:
    """The pickle of a PyG ``Data``, byte for byte, made without PyG."""
    data_room, storage_room = (
        _fake("torch_geometric.data.data"),
        _fake("torch_geometric.data.storage"),
    )
    names = [(data_room, "Data"), (data_room, "DataEdgeAttr"), (data_room, "DataTensorAttr")]
    for room, name in [*names, (storage_room, "GlobalStorage")]:
        setattr(room, name, type(name, (), {"__module__": room.__name__}))
    data, store = data_room.Data(), storage_room.GlobalStorage()
    store.__dict__ |= {"_mapping": dict(fields), "_parent": data}
    data.__dict__ |= {
        "_edge_attr_cls": data_room.DataEdgeAttr,
        "_tensor_attr_cls": data_room.DataTensorAttr,
        "_store": store,
    }
    rooms = {room.__name__: room for room in (data_room, storage_room)}
    with patch.dict(sys.modules, {**rooms, "torch_geometric": _fake("torch_geometric")}):
        return pickle.dumps(data, protocol=4)


def write_lmdb(path: Path, values: Mapping[bytes, bytes]) -> Path:
    """An LMDB file with these entries."""
    with (
        lmdb.open(str(path), subdir=False, map_size=1 << 24, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in values.items():
            transaction.put(key, value)
    return path


def write_horm(path: Path, records: Sequence[Record], length: bool = True) -> Path:
    """A HORM LMDB file."""
    values = {
        str(i).encode(): pickled_molecule(molecule_fields(record))
        for i, record in enumerate(records)
    }
    if length:
        values[b"length"] = pickle.dumps(len(records))
    return write_lmdb(path, values)


def write_groups(path: Path, records: Sequence[Record], batch: int = 11) -> Path:
    """The HDF5 layout of HIP-MACE as its own program writes it."""
    with h5py.File(path, "w") as file:
        for i, record in enumerate(records):
            group = file.create_group(f"config_batch_{i // batch}/config_{i % batch}")
            group["atomic_numbers"] = record.numbers
            group["positions"] = record.positions
            group["cell"] = group["pbc"] = "None"
            group["config_type"] = record.config_type
            group["weight"] = record.weight
            properties = group.create_group("properties")
            weights = group.create_group("property_weights")
            properties["energy"], weights["energy"] = record.energy, 1.0
            properties["forces"], weights["forces"] = record.forces, 1.0
            properties["hessian"] = np.asarray(record.hessian).ravel()
            properties["charges"] = record.numbers.astype(np.int32)
            weights["dipole"] = 0.0
    return path


def as_atoms(record: Record, prefix: str = "REF_", flat: bool = False) -> Atoms:
    """A frame whose Hessian is a per-atom array, or with `flat` in the comment line."""
    atoms = Atoms(record.numbers, record.positions)
    atoms.info[f"{prefix}energy"] = record.energy
    atoms.arrays[f"{prefix}forces"] = record.forces
    hessian = np.asarray(record.hessian)
    if flat:
        atoms.info[f"{prefix}hessian"] = hessian.ravel()
    else:
        atoms.arrays[f"{prefix}hessian"] = hessian.reshape(len(atoms), -1)
    return atoms


def write_extxyz(path: Path, records: Sequence[Record], prefix: str = "REF_") -> Path:
    """An extended XYZ file; ASE writes eight decimals."""
    write(path, [as_atoms(record, prefix) for record in records], format="extxyz")
    return path


def assert_same(first: Record, second: Record, atol: float = 0.0) -> None:
    """Numbers, positions and all labels agree."""
    np.testing.assert_array_equal(first.numbers, second.numbers)
    np.testing.assert_allclose(first.positions, second.positions, rtol=0, atol=atol)
    for name in ("energy", "forces", "hessian"):
        ours, theirs = getattr(first, name), getattr(second, name)
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol, err_msg=name)


def _single(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values.astype(np.float32).astype(np.float64)


def _fake(name: str) -> ModuleType:
    return ModuleType(name)
