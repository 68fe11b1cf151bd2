"""Exact symmetries of energy, forces and Hessian, in both precisions.

One batch holds a random molecule of every size from 1 to 21 atoms and three linear ones. Forces
and Hessian of every molecule are compared by themselves, relative to their own norm; energies, in
which positive and negative terms may cancel, relative to the norm of all.
"""

import numpy as np
import pytest
import torch
from samples import linear_molecule, random_molecule, small_net
from torch import Tensor

from sciml.core.symmetry import random_reflection, random_rotation
from sciml.hip.data.batch import collate
from sciml.hip.data.record import Record
from sciml.hip.net import MACEHIP

RECORDS = [random_molecule(size, 0) for size in range(1, 22)]
RECORDS += [linear_molecule(size, 1) for size in (2, 3, 5)]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
MATRICES = [random_rotation(0), random_rotation(1), random_rotation(2), random_reflection(3)]
Molecule = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["f64", "f32"])
def net(request: pytest.FixtureRequest) -> MACEHIP:
    made: MACEHIP = small_net().to(request.param).eval()
    return made


def _predict(net: MACEHIP, records: list[Record]) -> list[Molecule]:
    """Energy, forces and Hessian of every molecule, in float64."""
    batch = collate(records, net.cutoff)
    output = {key: value.double() for key, value in net(batch).items()}
    sizes = batch["ptr"].diff().tolist()
    forces = output["forces"].split(sizes)
    hessians = [
        matrix[: 3 * size, : 3 * size]
        for matrix, size in zip(output["hessian"], sizes, strict=True)
    ]
    return list(zip(output["energy"], forces, hessians, strict=True))


def assert_same(net: MACEHIP, found: list[Molecule], expected: list[Molecule]) -> None:
    tolerance = TOLERANCE[net.embedding.dtype]
    energies = torch.stack([energy for energy, *_ in expected])
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours[0] - theirs[0]).abs() <= tolerance * energies.norm()
        for value, reference in zip(ours[1:], theirs[1:], strict=True):
            assert (value - reference).norm() <= tolerance * reference.norm()


def _moved(record: Record, matrix: Tensor, shift: tuple[float, float, float]) -> Record:
    positions = record.positions @ matrix.numpy().T + np.array(shift)
    return Record(record.numbers, positions)


@pytest.mark.parametrize("matrix", MATRICES, ids=["first", "second", "third", "mirror"])
def test_rotations_and_reflections_turn_forces_and_hessian(net: MACEHIP, matrix: Tensor) -> None:
    still = _predict(net, RECORDS)
    turned = _predict(net, [_moved(record, matrix, (0, 0, 0)) for record in RECORDS])
    expected = []
    for energy, forces, hessian in still:
        blocks = torch.block_diag(*[matrix] * len(forces))
        expected.append((energy, forces @ matrix.T, blocks @ hessian @ blocks.T))
    assert_same(net, turned, expected)


def test_translations_change_nothing(net: MACEHIP) -> None:
    moved = [_moved(record, torch.eye(3), (30.0, -70.0, 55.0)) for record in RECORDS]
    assert_same(net, _predict(net, moved), _predict(net, RECORDS))


def test_permutations_permute_forces_and_hessian(net: MACEHIP) -> None:
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(record.numbers)) for record in RECORDS]
    shuffled = [
        Record(record.numbers[order], record.positions[order])
        for record, order in zip(RECORDS, orders, strict=True)
    ]
    expected = []
    for (energy, forces, hessian), order in zip(_predict(net, RECORDS), orders, strict=True):
        rows = torch.from_numpy((3 * order[:, None] + np.arange(3)).ravel())
        expected.append((energy, forces[torch.from_numpy(order)], hessian[rows][:, rows]))
    assert_same(net, _predict(net, shuffled), expected)


def test_a_molecule_does_not_feel_the_batch(net: MACEHIP) -> None:
    alone = [_predict(net, [record])[0] for record in RECORDS]
    assert_same(net, _predict(net, RECORDS), alone)
    assert_same(net, _predict(net, RECORDS[::-1]), alone[::-1])


def test_hessian_is_symmetric_and_obeys_all_rules(net: MACEHIP) -> None:
    tolerance = TOLERANCE[net.embedding.dtype]
    for record, (_, forces, hessian) in zip(RECORDS, _predict(net, RECORDS), strict=True):
        scale = hessian.norm().clamp(min=1e-12)
        assert (hessian - hessian.T).norm() <= tolerance * scale
        positions = torch.from_numpy(record.positions - record.positions.mean(0))
        for axis in torch.eye(3, dtype=torch.float64):
            shift = axis.repeat(len(positions))
            assert (hessian @ shift).norm() <= tolerance * scale * shift.norm()
            turn = torch.linalg.cross(axis.expand_as(positions), positions)
            required = torch.linalg.cross(axis.expand_as(forces), -forces)
            residual = hessian @ turn.flatten() - required.flatten()
            assert residual.norm() <= tolerance * scale * max(1.0, turn.norm().item())


def test_forces_sum_to_zero_and_exert_no_torque(net: MACEHIP) -> None:
    for record, (_, forces, _) in zip(RECORDS, _predict(net, RECORDS), strict=True):
        tolerance = TOLERANCE[net.embedding.dtype] * forces.norm()
        positions = torch.from_numpy(record.positions - record.positions.mean(0))
        assert forces.sum(0).norm() <= tolerance
        assert torch.linalg.cross(positions, forces).sum(0).norm() <= 10 * tolerance
