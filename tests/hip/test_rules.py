"""Translation and rotation rules of the Hessian."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciml.hip.data.batch import collate
from sciml.hip.data.record import Record
from sciml.hip.physics.layout import entry_mask
from sciml.hip.physics.rules import project, project_translation, rule_residuals

Array = NDArray[np.float64]
GENERATOR = np.random.default_rng(1)
BENT = GENERATOR.normal(size=(5, 3))
DIAGONAL = np.array([1.0, 2.0, -2.0]) / 3
LINEAR = np.outer([-1.2, 0.0, 1.1, 2.3], DIAGONAL) + 4.0
ALONG_X = np.outer([-1.2, 0.0, 1.1], [1.0, 0.0, 0.0])
PAIR = np.array([[0.0, 0.0, 0.0], [0.3, -0.7, 0.4]])
ATOM = np.array([[1.0, 2.0, 3.0]])
SHAPES = {"bent": BENT, "linear": LINEAR, "x": ALONG_X, "pair": PAIR, "atom": ATOM}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _energy(positions: Tensor) -> Tensor:
    """Some function of the distances: invariant, with forces and curvature everywhere."""
    i, j = torch.triu_indices(len(positions), len(positions), 1)
    distances = (positions[i] - positions[j]).norm(dim=1)
    return (distances - 1.1).square().sum() + distances.sin().sum()


def _record(positions: Array) -> Record:
    x = torch.from_numpy(positions)
    if len(x) == 1:
        forces, hessian = torch.zeros_like(x), torch.zeros(3, 3, dtype=torch.float64)
    else:
        forces = -torch.autograd.functional.jacobian(_energy, x)
        hessian = torch.autograd.functional.hessian(_energy, x).reshape(x.numel(), -1)
    numbers = np.ones(len(x), dtype=np.int64)
    return Record(numbers, positions, forces=forces.numpy(), hessian=hessian.numpy())


def _batch(*names: str) -> dict[str, Tensor]:
    return collate([_record(SHAPES[name]) for name in names], 5.0)


def _noisy(batch: dict[str, Tensor]) -> Tensor:
    mask = entry_mask(batch["ptr"])
    noise = torch.randn(batch["hessian"].shape, dtype=torch.float64)
    noise = (noise + noise.mT) * mask[:, :, None] * mask[:, None]
    return batch["hessian"] + noise


def _nearest_by_least_squares(hessian: Array, positions: Array, forces: Array) -> Array:
    """Constrained least squares over all symmetric matrices, by their free entries."""
    size = len(hessian)
    rows, columns = np.triu_indices(size)
    basis = np.zeros((len(rows), size, size))
    basis[np.arange(len(rows)), rows, columns] = basis[np.arange(len(rows)), columns, rows] = 1
    motions, images = [], []
    for axis in np.eye(3):
        motions += [np.tile(axis, len(positions)), np.cross(axis, positions).ravel()]
        images += [np.zeros(size), np.cross(axis, -forces).ravel()]
    constraints = np.concatenate([(basis @ motion).T for motion in motions])
    target = np.concatenate(images)
    start = np.linalg.lstsq(constraints, target, rcond=1e-10)[0]
    assert np.allclose(constraints @ start, target, atol=1e-10)  # the rules can be met
    _, singular, directions = np.linalg.svd(constraints)
    free = directions[(singular > 1e-10 * singular[0]).sum() :]
    design = np.einsum("fe,eab->abf", free, basis).reshape(size * size, -1)
    rest = hessian - np.einsum("e,eab->ab", start, basis)
    best = start + free.T @ np.linalg.lstsq(design, rest.ravel(), rcond=None)[0]
    return np.einsum("e,eab->ab", best, basis)


def test_true_hessians_stay_as_they_are() -> None:
    batch = _batch("bent", "linear", "x", "pair", "atom")
    projected = project(batch["hessian"], batch["pos"], batch["forces"], batch)
    torch.testing.assert_close(projected, batch["hessian"], atol=1e-11, rtol=0)


def test_six_rules_hold_after_projection() -> None:
    batch = _batch("bent", "linear", "x", "pair", "atom")
    noisy = _noisy(batch)
    projected = project(noisy, batch["pos"], batch["forces"], batch)
    residuals = rule_residuals(projected, batch["pos"], batch["forces"], batch)
    assert rule_residuals(noisy, batch["pos"], batch["forces"], batch)[:, 0].min() > 0.1
    assert residuals.max() < 1e-12
    assert torch.equal(projected, projected.mT)
    assert not projected[4, 3:].any()  # padding


@pytest.mark.parametrize("shape", ["bent", "linear", "pair"])
def test_projection_is_the_nearest_symmetric_matrix(shape: str) -> None:
    batch = _batch(shape)
    noisy = _noisy(batch)
    projected = project(noisy, batch["pos"], batch["forces"], batch)[0].numpy()
    expected = _nearest_by_least_squares(
        noisy[0].numpy(), batch["pos"].numpy(), batch["forces"].numpy()
    )
    np.testing.assert_allclose(projected, expected, atol=1e-11)


def test_projection_twice_is_projection_once() -> None:
    batch = _batch("bent", "linear")
    once = project(_noisy(batch), batch["pos"], batch["forces"], batch)
    twice = project(once, batch["pos"], batch["forces"], batch)
    torch.testing.assert_close(twice, once, atol=1e-12, rtol=0)


def test_molecules_of_a_batch_do_not_meet() -> None:
    batch = _batch("atom", "bent", "pair")
    noisy = _noisy(batch)
    together = project(noisy, batch["pos"], batch["forces"], batch)
    alone = _batch("pair")
    expected = project(noisy[2:, :6, :6], alone["pos"], alone["forces"], alone)
    torch.testing.assert_close(together[2:, :6, :6], expected, atol=1e-13, rtol=0)


def test_constant_force_is_left_out() -> None:
    batch = _batch("bent")
    pushed = batch["forces"] + torch.tensor([0.3, -0.2, 0.7], dtype=torch.float64)
    projected = project(batch["hessian"], batch["pos"], pushed, batch)
    torch.testing.assert_close(projected, batch["hessian"], atol=1e-11, rtol=0)


def test_noise_of_float32_forces_is_not_magnified() -> None:
    # 1e-7 Å off the line: the rotation about it would carry noise/1e-7 into the Hessian
    positions = LINEAR + 1e-7 * np.random.default_rng(0).normal(size=LINEAR.shape)
    batch = collate([_record(positions)], 5.0)
    forces = batch["forces"].float()
    projected = project(batch["hessian"].float(), batch["pos"], forces, batch)
    torch.testing.assert_close(projected.double(), batch["hessian"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", ["bent", "linear", "x", "pair"])
def test_projection_has_finite_gradients(shape: str) -> None:
    batch = _batch(shape)
    inputs = [
        tensor.clone().requires_grad_() for tensor in (_noisy(batch), batch["pos"], batch["forces"])
    ]
    projected = project(*inputs, batch)
    gradients = torch.autograd.grad(projected.pow(3).sum(), inputs)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_gradient_of_projection_is_right() -> None:
    batch = _batch("bent")
    inputs = [
        tensor.clone().requires_grad_() for tensor in (_noisy(batch), batch["pos"], batch["forces"])
    ]
    assert torch.autograd.gradcheck(lambda h, x, f: project(h, x, f, batch), inputs)


def test_translation_rule_takes_block_means() -> None:
    batch = _batch("bent", "atom")
    noisy = _noisy(batch)
    projected = project_translation(noisy, batch)
    assert rule_residuals(projected, batch["pos"], batch["forces"], batch)[:, 0].max() < 1e-13
    blocks = noisy[0].view(5, 3, 5, 3)
    means = blocks.mean((0, 2), keepdim=True)
    expected = blocks - blocks.mean(0, keepdim=True) - blocks.mean(2, keepdim=True) + means
    torch.testing.assert_close(projected[0].view(5, 3, 5, 3), expected, atol=1e-13, rtol=0)
    assert projected[1].abs().max() < 1e-13


def test_residuals_are_mean_entries() -> None:
    # H = 1: H t_a is 1 in one of three entries; the force of one unit needs w_a = e_a × g
    batch = _batch("pair")
    batch["pos"] = torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    hessian = torch.eye(6, dtype=torch.float64)[None]
    forces = torch.zeros(2, 3, dtype=torch.float64)
    # the rotations about x and y move each atom by 1 Å along one direction: 4 of 18 entries
    expected = torch.tensor([[1 / 3, 4 / 18]], dtype=torch.float64)
    torch.testing.assert_close(rule_residuals(hessian, batch["pos"], forces, batch), expected)
