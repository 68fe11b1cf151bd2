"""Padded Hessians and their blocks."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sciml.hip.data.batch import collate
from sciml.hip.data.record import Record
from sciml.hip.physics.layout import (
    assemble,
    diagonal_blocks,
    entry_mask,
    largest_molecule,
    pair_blocks,
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _batch(*sizes: int) -> dict[str, Tensor]:
    rng = np.random.default_rng(0)
    records = []
    for size in sizes:
        hessian = rng.normal(size=(3 * size, 3 * size))
        numbers = np.ones(size, dtype=np.int64)
        positions = 2 * rng.normal(size=(size, 3))
        records.append(Record(numbers, positions, hessian=hessian + hessian.T))
    return collate(records, 5.0)


def test_mask_marks_three_rows_an_atom() -> None:
    batch = _batch(2, 1, 3)
    assert largest_molecule(batch["ptr"]) == 3
    assert entry_mask(batch["ptr"]).sum(1).tolist() == [6, 3, 9]
    assert entry_mask(batch["ptr"])[1].tolist() == [True] * 3 + [False] * 6


def test_blocks_are_the_slices_of_each_molecule() -> None:
    batch = _batch(3, 1, 4)
    pairs = pair_blocks(batch["hessian"], batch)
    diagonal = diagonal_blocks(batch["hessian"], batch)
    for index, (i, j) in enumerate(zip(batch["pair_i"], batch["pair_j"], strict=True)):
        molecule = batch["batch"][i]
        row, column = 3 * (i - batch["ptr"][molecule]), 3 * (j - batch["ptr"][molecule])
        expected = batch["hessian"][molecule, row : row + 3, column : column + 3]
        assert torch.equal(pairs[index], expected)
    for atom in range(8):
        molecule = batch["batch"][atom]
        row = 3 * (atom - batch["ptr"][molecule])
        expected = batch["hessian"][molecule, row : row + 3, row : row + 3]
        assert torch.equal(diagonal[atom], expected)


def test_blocks_and_matrices_are_the_same_numbers() -> None:
    batch = _batch(3, 1, 4, 2)
    hessian = batch["hessian"]
    rebuilt = assemble(pair_blocks(hessian, batch), diagonal_blocks(hessian, batch), batch)
    assert torch.equal(rebuilt, hessian)


def test_assembled_hessian_is_exactly_symmetric_for_any_blocks() -> None:
    batch = _batch(3, 5)
    pair = torch.randn(len(batch["pair_i"]), 3, 3)
    diagonal = torch.randn(8, 3, 3)
    hessian = assemble(pair, diagonal + diagonal.mT, batch)
    assert hessian.dtype == torch.float32
    assert torch.equal(hessian, hessian.mT)
    assert torch.equal(pair_blocks(hessian, batch), pair)


def test_lone_atoms_have_no_pairs() -> None:
    batch = _batch(1, 1)
    assert pair_blocks(batch["hessian"], batch).shape == (0, 3, 3)
    diagonal = torch.randn(2, 3, 3)
    assert torch.equal(assemble(diagonal[:0], diagonal, batch), diagonal)


def test_gradient_reaches_every_block_once() -> None:
    batch = _batch(2, 3)
    pair = torch.randn(4, 3, 3, requires_grad=True)
    diagonal = torch.randn(5, 3, 3, requires_grad=True)
    assemble(pair, diagonal, batch).sum().backward()
    assert pair.grad is not None
    assert diagonal.grad is not None
    assert torch.equal(pair.grad, torch.full_like(pair, 2))  # H_ij and H_ji
    assert torch.equal(diagonal.grad, torch.ones_like(diagonal))
