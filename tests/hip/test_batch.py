import numpy as np
import pytest
import torch
from hessian_files import spring_records

from sciml.hip.data.batch import collate
from sciml.hip.data.record import Record


def test_molecules_are_stacked_in_order() -> None:
    records = spring_records(4)
    batch = collate(records, cutoff=5.0)
    sizes = [len(record.numbers) for record in records]
    assert batch["ptr"].tolist() == [0, *np.cumsum(sizes).tolist()]
    assert batch["batch"].tolist() == np.repeat(np.arange(4), sizes).tolist()
    assert batch["z"].tolist() == np.concatenate([r.numbers for r in records]).tolist()
    assert batch["id"].tolist() == [0, 1, 2, 3]
    assert batch["pos"].dtype == batch["energy"].dtype == torch.float64
    assert batch["z"].dtype == batch["nbr"].dtype == batch["pair_i"].dtype == torch.int64


def test_total_energies_stay_in_float64() -> None:
    record = spring_records(1)[0]
    record.energy = -8266.912345678901
    assert collate([record], 5.0)["energy"].item() == -8266.912345678901


def test_hessians_are_padded_with_zeros() -> None:
    records = spring_records(3)
    hessian = collate(records, 5.0)["hessian"]
    assert hessian.shape == (3, 15, 15)
    for row, record in enumerate(records):
        size = 3 * len(record.numbers)
        np.testing.assert_array_equal(hessian[row, :size, :size], record.hessian)
        assert hessian[row].abs().sum() == np.abs(record.hessian).sum()


def test_absent_labels_are_zero_with_weight_zero() -> None:
    full, empty = spring_records(2)
    empty.energy = empty.forces = empty.hessian = None
    full.weight, full.forces_weight = 2.0, 0.25
    batch = collate([full, empty], 5.0)
    assert batch["w_energy"].tolist() == [2.0, 0.0]
    assert batch["w_forces"].tolist() == [0.5, 0.0]
    assert batch["w_hessian"].tolist() == [2.0, 0.0]
    assert batch["energy"][1] == 0
    assert batch["forces"][5:].abs().sum() == 0
    assert batch["hessian"][1].abs().sum() == 0


@pytest.mark.parametrize("cutoff", [1.4, 2.0, 5.0])
def test_neighbours_and_pairs_are_those_of_a_loop(cutoff: float) -> None:
    records = spring_records(5)
    batch = collate(records, cutoff)
    start, edges, pairs = 0, set(), []
    for record in records:
        for i, first in enumerate(record.positions):
            for j, second in enumerate(record.positions):
                if i != j and np.linalg.norm(first - second) < cutoff:
                    edges.add((start + i, start + j))
                if i < j:
                    pairs.append((start + i, start + j))
        start += len(record.numbers)
    receiver, slot = batch["nbr_mask"].nonzero(as_tuple=True)
    sender = batch["nbr"][receiver, slot]
    assert set(zip(receiver.tolist(), sender.tolist(), strict=True)) == edges
    assert len(receiver) == len(edges)
    assert list(zip(batch["pair_i"].tolist(), batch["pair_j"].tolist(), strict=True)) == pairs


def test_a_single_atom_has_a_padded_neighbour() -> None:
    batch = collate([Record(np.array([2]), np.zeros((1, 3)), energy=-78.0)], 5.0)
    assert batch["nbr"].tolist() == [[0]]
    assert batch["nbr_mask"].tolist() == [[False]]
    assert len(batch["pair_i"]) == 0
