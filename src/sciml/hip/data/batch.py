"""Records to one batch of tensors (b molecules, n atoms, m atoms in the largest, p pairs)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sciml.core.graph import all_pairs, neighbor_table
from sciml.hip.data.record import Record

Batch = dict[str, Tensor]


def collate(records: Sequence[Record], cutoff: float) -> Batch:
    """Stack molecules of any size; see `HIPNet` for the meaning of every key.

    Args:
        records: The molecules.
        cutoff: Radius of the neighbour table in Å.

    Returns:
        Tensors on the CPU: indices int64, coordinates, labels and weights float64. A missing
        label is zero and has weight zero.
    """
    counts = torch.tensor([len(record.numbers) for record in records])
    ptr = torch.zeros(len(records) + 1, dtype=torch.int64)
    ptr[1:] = counts.cumsum(0)
    graph = torch.repeat_interleave(torch.arange(len(records)), counts)
    positions = torch.from_numpy(np.concatenate([record.positions for record in records]))
    neighbors, is_neighbor = neighbor_table(positions, graph, ptr, cutoff)
    pair_i, pair_j = all_pairs(graph, ptr)
    return {
        "z": torch.from_numpy(np.concatenate([record.numbers for record in records])),
        "pos": positions,
        "batch": graph,
        "ptr": ptr,
        "nbr": neighbors,
        "nbr_mask": is_neighbor,
        "pair_i": pair_i,
        "pair_j": pair_j,
        "id": torch.tensor([record.identifier for record in records]),
        **_labels(records, counts),
    }


def _labels(records: Sequence[Record], counts: Tensor) -> Batch:
    widest = 3 * int(counts.max())
    hessian = torch.zeros(len(records), widest, widest, dtype=torch.float64)
    for row, record in enumerate(records):  # one copy of a contiguous matrix per molecule
        if record.hessian is not None:
            size = 3 * len(record.numbers)
            hessian[row, :size, :size] = torch.from_numpy(record.hessian)
    forces = [
        np.zeros_like(record.positions) if record.forces is None else record.forces
        for record in records
    ]
    return {
        "energy": _column([record.energy or 0.0 for record in records]),
        "forces": torch.from_numpy(np.concatenate(forces)),
        "hessian": hessian,
        "w_energy": _column([_weight(r, r.energy, r.energy_weight) for r in records]),
        "w_forces": _column([_weight(r, r.forces, r.forces_weight) for r in records]),
        "w_hessian": _column([_weight(r, r.hessian, r.hessian_weight) for r in records]),
    }


def _weight(record: Record, label: object, factor: float) -> float:
    return 0.0 if label is None else record.weight * factor


def _column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
