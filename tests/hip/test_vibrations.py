"""Normal modes against closed forms and a plain NumPy analysis."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciml.hip.data.batch import collate
from sciml.hip.data.record import Record
from sciml.hip.physics.constants import AMU, WAVENUMBER
from sciml.hip.physics.vibrations import (
    frequencies,
    masses,
    negative_modes,
    normal_modes,
    plain_eigenvalues,
    wavenumber,
    zero_point_energy,
)

Array = NDArray[np.float64]
WATER = np.array([[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]])
OBLIQUE = np.array([2.0, -1.0, 2.0]) / 3
CARBON_DIOXIDE = np.outer([0.0, 1.16, -1.16], OBLIQUE)
ELECTRONVOLT, LIGHT = 1.602176634e-19, 299792458.0  # J and m/s, exact in the SI


def _springs(positions: Array, stiffness: float = 30.0) -> Array:
    """Hessian of relaxed springs between all atoms."""
    size = len(positions)
    hessian = np.zeros((size, 3, size, 3))
    for i in range(size):
        for j in range(size):
            if i != j:
                u = (positions[i] - positions[j]) / np.linalg.norm(positions[i] - positions[j])
                hessian[i, :, i] += stiffness * np.outer(u, u)
                hessian[i, :, j] -= stiffness * np.outer(u, u)
    return hessian.reshape(3 * size, 3 * size)


def _record(numbers: list[int], positions: Array, hessian: Array | None = None) -> Record:
    hessian = _springs(positions) if hessian is None else hessian
    return Record(np.array(numbers), positions, hessian=hessian)


def _noisy(numbers: list[int], seed: int) -> Record:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(3 * len(numbers), 3 * len(numbers)))
    return _record(numbers, 2 * rng.normal(size=(len(numbers), 3)), noise + noise.T)


def _reference(record: Record, linear: bool = False) -> Array:
    """Eigenvalues of the projected mass-weighted Hessian, by NumPy for one molecule."""
    weight = masses(torch.from_numpy(record.numbers)).numpy()
    root = np.sqrt(weight)[:, None]
    offsets = record.positions - (weight[:, None] * record.positions).sum(0) / weight.sum()
    motions = [(root * axis).ravel() for axis in np.ones((len(weight), 1)) * np.eye(3)[:, None]]
    motions += [(root * np.cross(axis, offsets)).ravel() for axis in np.eye(3)]
    left, _, _ = np.linalg.svd(np.array(motions).T)
    vibrations = left[:, 5 if linear else 6 :]
    scale = np.repeat(1 / root.ravel(), 3)
    assert record.hessian is not None
    matrix = scale[:, None] * record.hessian * scale
    return np.linalg.eigvalsh(vibrations.T @ matrix @ vibrations)


def _values(batch: dict[str, Tensor], molecule: int) -> Tensor:
    modes = normal_modes(batch["hessian"], batch)
    return modes.eigenvalues[molecule, : modes.counts[molecule]]


def test_wavenumber_follows_from_the_units() -> None:
    # ω = √(k/m), ν̄ = ω/(2πc), in 1/cm
    angular = math.sqrt(ELECTRONVOLT / AMU) / 1e-10
    assert pytest.approx(angular / (2 * math.pi * LIGHT * 100), abs=2e-5) == WAVENUMBER
    values = wavenumber(torch.tensor([4.0, 0.0, -9.0]))
    assert values.tolist() == pytest.approx([2 * WAVENUMBER, 0.0, -3 * WAVENUMBER])


def test_counts_of_atoms_linear_and_bent_molecules() -> None:
    records = [
        _record([8, 1, 1], WATER),
        _record([6, 8, 8], CARBON_DIOXIDE),
        _record([18], np.array([[3.0, 1.0, 2.0]])),
        _record([7, 7], 1.1 * np.array([[0, 0, 0], [0, 0, 1.0]])),
        _record([6, 8, 8], np.outer([0.0, 1.16, -1.16], [1.0, 0.0, 0.0])),
        _record([6, 8, 8], CARBON_DIOXIDE + 1e-7 * np.eye(3)),  # off the line by rounding
    ]
    batch = collate(records, 5.0)
    modes = normal_modes(batch["hessian"], batch)
    assert modes.counts.tolist() == [3, 4, 0, 1, 4, 4]
    assert modes.eigenvalues.isnan().sum(1).tolist() == [1, 0, 4, 3, 0, 0]


def test_atoms_alone_have_no_modes() -> None:
    batch = collate([_record([1], np.zeros((1, 3))), _record([2], np.ones((1, 3)))], 5.0)
    modes = normal_modes(batch["hessian"], batch)
    assert modes.eigenvalues.shape == (2, 0)
    assert zero_point_energy(modes).tolist() == [0.0, 0.0]
    assert negative_modes(modes).tolist() == [0, 0]


def test_diatomic_spring() -> None:
    positions = np.array([[0.1, 0.2, 0.3], [0.7, -0.3, 0.9]])
    batch = collate([_record([1, 9], positions, _springs(positions, 60.0))], 5.0)
    modes = normal_modes(batch["hessian"], batch)
    reduced = 1.008 * 18.998403163 / (1.008 + 18.998403163)  # amu, standard atomic weights
    expected = 521.47090 * math.sqrt(60.0 / reduced)
    assert frequencies(modes).item() == pytest.approx(expected, rel=1e-12)
    assert zero_point_energy(modes).item() == pytest.approx(expected * 1.239841984e-4 / 2)


def test_linear_triatomic_chain() -> None:
    # X-Y-X with bonds k only: ω² = k/m_X and k (1/m_X + 2/m_Y); no force against bending
    hessian = np.zeros((9, 9))
    for end in (1, 2):
        pair = [slice(0, 3), slice(3 * end, 3 * end + 3)]
        bond = 95.0 * np.outer(OBLIQUE, OBLIQUE)
        for row in pair:
            for column in pair:
                hessian[row, column] += bond if row == column else -bond
    batch = collate([_record([6, 8, 8], CARBON_DIOXIDE, hessian)], 5.0)
    carbon, oxygen = 12.011, 15.999  # amu
    expected = [0.0, 0.0, 95.0 / oxygen, 95.0 * (1 / oxygen + 2 / carbon)]
    assert _values(batch, 0).tolist() == pytest.approx(expected, abs=1e-12)


def test_batch_agrees_with_numpy_one_by_one() -> None:
    records = [
        _record([8, 1, 1], WATER),
        _noisy([6, 1, 8, 7, 1, 1, 6], 0),
        _record([6, 8, 8], CARBON_DIOXIDE),
        _noisy([6, 6, 1, 1], 1),
    ]
    batch = collate(records, 5.0)
    for molecule, record in enumerate(records):
        expected = _reference(record, linear=molecule == 2)
        np.testing.assert_allclose(_values(batch, molecule), expected, atol=1e-11)


def test_vectors_are_vibrations() -> None:
    batch = collate([_record([8, 1, 1], WATER), _noisy([6, 1, 8, 7, 1], 0)], 5.0)
    modes = normal_modes(batch["hessian"], batch)
    gram = modes.vectors.mT @ modes.vectors
    present = torch.arange(9) < modes.counts[:, None]
    torch.testing.assert_close(gram, torch.diag_embed(present.double()))
    assert not modes.vectors[0, 9:].any()
    weights = masses(batch["z"]).sqrt()
    moves = modes.vectors[1].view(5, 3, 9) * weights[3:, None, None]
    torch.testing.assert_close(moves.sum(0), torch.zeros(3, 9, dtype=torch.float64))
    turns = torch.linalg.cross(batch["pos"][3:, :, None].expand(5, 3, 9), moves, dim=1).sum(0)
    torch.testing.assert_close(turns, torch.zeros(3, 9, dtype=torch.float64))


def test_modes_do_not_depend_on_the_frame() -> None:
    record = _noisy([6, 1, 8, 7], 3)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    blocks = np.kron(np.eye(4), turn)
    assert record.hessian is not None
    hessian = blocks @ record.hessian @ blocks.T
    turned = Record(record.numbers, record.positions @ turn.T + 7.0, hessian=hessian)
    batch = collate([record, turned], 5.0)
    torch.testing.assert_close(_values(batch, 0), _values(batch, 1), atol=1e-10, rtol=0)


def test_negative_modes_are_counted_and_have_no_zero_point_energy() -> None:
    record = _record([8, 1, 1], WATER)
    assert record.hessian is not None
    saddle = _record([8, 1, 1], WATER, -record.hessian)
    batch = collate([record, saddle], 5.0)
    modes = normal_modes(batch["hessian"], batch)
    assert negative_modes(modes).tolist() == [0, 3]
    assert negative_modes(modes, threshold=-1e6).tolist() == [0, 0]
    assert (frequencies(modes)[1] < 0).all()
    assert zero_point_energy(modes)[1] == 0
    assert zero_point_energy(modes)[0].item() == pytest.approx(
        frequencies(modes)[0].sum().item() * 1.239841984e-4 / 2
    )


def test_heavier_isotopes_vibrate_slower() -> None:
    batch = collate([_record([1, 1], np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]]))], 5.0)
    light = frequencies(normal_modes(batch["hessian"], batch))
    deuterium = torch.full((2,), 2.014, dtype=torch.float64)  # amu
    heavy = frequencies(normal_modes(batch["hessian"], batch, deuterium))
    assert (light / heavy).item() == pytest.approx(math.sqrt(2.014 / 1.008))


def test_plain_eigenvalues_are_padded_with_nan() -> None:
    records = [_noisy([6, 1], 0), _noisy([6, 1, 8, 7], 1)]
    batch = collate(records, 5.0)
    values = plain_eigenvalues(batch["hessian"], batch["ptr"])
    for row, record in zip(values, records, strict=True):
        size = 3 * len(record.numbers)
        np.testing.assert_allclose(row[:size], np.linalg.eigvalsh(record.hessian), atol=1e-12)
        assert row[size:].isnan().all()
