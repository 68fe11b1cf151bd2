import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sciml.core.metrics import Term
from sciml.hip.data.batch import collate
from sciml.hip.data.record import Record
from sciml.hip.loss import (
    EigenTerms,
    HIPLoss,
    Huber,
    consistency_loss,
    displace,
    eigen_loss,
    energy_loss,
    fixed_directions,
    forces_loss,
    hessian_loss,
    random_directions,
)
from sciml.hip.physics.vibrations import MASSES

Batch = dict[str, Tensor]
SIZES = (3, 1, 5, 2, 4)


def labelled_batch(seed: int = 0) -> Batch:
    """Molecules of several sizes; the first lacks its Hessian, the last its energy and forces."""
    rng = np.random.default_rng(seed)
    records = []
    for index, size in enumerate(SIZES):
        hessian = rng.normal(size=(3 * size, 3 * size)) * 5
        records.append(
            Record(
                numbers=rng.choice([1, 6, 8], size),
                positions=rng.normal(size=(size, 3)) * 2,
                energy=None if index == 4 else -8000.0 + rng.normal(),
                forces=None if index == 4 else rng.normal(size=(size, 3)) * 150,
                hessian=None if index == 0 else hessian + hessian.T,
                weight=2.0 if index == 3 else 1.0,
            )
        )
    return collate(records, cutoff=5.0)


def random_prediction(batch: Batch, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64)

    size = 3 * batch["ptr"].diff()
    real = torch.arange(int(size.max())) < size[:, None]
    error = noise(batch["hessian"]) * real[:, :, None] * real[:, None, :]
    return {
        "total_energy": (batch["energy"] + noise(batch["energy"])).requires_grad_(),
        "forces": (batch["forces"] + noise(batch["forces"])).requires_grad_(),
        "hessian": (batch["hessian"] + error + error.mT).requires_grad_(),
    }


def split(batch: Batch, prediction: Batch) -> list[dict[str, np.ndarray]]:
    """The same as one dictionary of arrays for every molecule."""
    molecules = []
    for row, size in enumerate(SIZES):
        atoms = slice(int(batch["ptr"][row]), int(batch["ptr"][row + 1]))
        entries = (row, slice(3 * size), slice(3 * size))
        molecules.append(
            {
                "z": batch["z"][atoms].numpy(),
                "energy": (prediction["total_energy"] - batch["energy"])[row].detach().numpy(),
                "forces": (prediction["forces"] - batch["forces"])[atoms].detach().numpy(),
                "label": batch["forces"][atoms].numpy(),
                "hessian": prediction["hessian"][entries].detach().numpy(),
                "true": batch["hessian"][entries].numpy(),
                "w": {k: float(batch[f"w_{k}"][row]) for k in ("energy", "forces", "hessian")},
            }
        )
    return molecules


def penalty(error: np.ndarray, kind: str, delta: float) -> np.ndarray:
    if kind == "mae":
        return np.abs(error)
    if kind == "mse":
        return error**2
    inside = 0.5 * error**2
    return np.where(np.abs(error) < delta, inside, delta * (np.abs(error) - delta / 2))


def value(term: Term) -> float:
    return (term[0] / term[1]).item()


@pytest.mark.parametrize("kind", ["mae", "mse", "huber"])
def test_energy_loss_is_per_atom_and_masked(kind: str) -> None:
    batch = labelled_batch()
    prediction = random_prediction(batch)
    errors = [
        m["w"]["energy"] * penalty(m["energy"] / len(m["z"]), kind, 0.1)
        for m in split(batch, prediction)
        if m["w"]["energy"]
    ]
    assert len(errors) == 4
    assert value(energy_loss(prediction, batch, kind, 0.1)) == pytest.approx(np.mean(errors))


@pytest.mark.parametrize("kind", ["l2norm", "mae", "mse", "huber", "conditional_huber"])
def test_forces_loss_averages_atoms(kind: str) -> None:
    batch = labelled_batch()
    prediction = random_prediction(batch)
    errors = []
    for m in split(batch, prediction):
        for error, label in zip(m["forces"], m["label"], strict=True):
            if not m["w"]["forces"]:
                continue
            if kind == "l2norm":
                one = np.linalg.norm(error)
            elif kind == "conditional_huber":
                factors = [f for t, f in ((300, 0.1), (200, 0.4), (100, 0.7), (-1, 1.0))
                           if np.linalg.norm(label) >= t]  # fmt: skip
                one = penalty(error, "huber", 0.5 * factors[0]).mean()
            else:
                one = penalty(error, kind, 0.5).mean()
            errors.append(m["w"]["forces"] * one)
    term = forces_loss(prediction, batch, kind, Huber(delta=0.5))
    assert value(term) == pytest.approx(np.mean(errors))


@pytest.mark.parametrize("kind", ["mae", "mse", "huber"])
@pytest.mark.parametrize("reduction", ["molecule", "entry"])
def test_hessian_loss_over_molecules_or_entries(kind: str, reduction: str) -> None:
    batch = labelled_batch()
    prediction = random_prediction(batch)
    errors = [
        m["w"]["hessian"] * penalty(m["hessian"] - m["true"], kind, 0.3).ravel()
        for m in split(batch, prediction)
        if m["w"]["hessian"]
    ]
    mean = np.concatenate(errors).mean() if reduction == "entry" else np.mean(
        [error.mean() for error in errors]
    )  # fmt: skip
    assert value(hessian_loss(prediction, batch, kind, reduction, 0.3)) == pytest.approx(mean)


@pytest.mark.parametrize("weighted", [False, True])
def test_eigen_loss_in_the_basis_of_the_label(weighted: bool) -> None:
    batch = labelled_batch()
    prediction = random_prediction(batch)
    settings = EigenTerms(lowest=(0, 2), alpha=(0.1, 1.0), mass_weighted=weighted)
    errors = []
    for row, m in enumerate(split(batch, prediction)):
        if not m["w"]["hessian"]:
            continue
        atoms = slice(int(batch["ptr"][row]), int(batch["ptr"][row + 1]))
        basis = eigenbasis(m, batch["pos"][atoms].numpy(), weighted)
        change = np.abs(basis.T @ (m["hessian"] - m["true"]) @ basis)
        terms = [change, change[:2, :2]]
        loss = sum(a * t.mean() for a, t in zip(settings.alpha, terms, strict=True) if t.size)
        errors.append(m["w"]["hessian"] * loss)
    term = eigen_loss(prediction, batch, settings)
    assert value(term) == pytest.approx(np.mean(errors), rel=1e-9)
    term[0].backward()
    assert prediction["hessian"].grad is not None
    assert prediction["hessian"].grad.isfinite().all()


def eigenbasis(
    molecule: dict[str, np.ndarray], positions: np.ndarray, weighted: bool
) -> np.ndarray:
    """Ascending eigenvectors that probe the Hessian; VᵀHV of the label is then diagonal."""
    if not weighted:
        return np.linalg.eigh(molecule["true"])[1]
    roots = np.sqrt(np.repeat(MASSES.numpy()[molecule["z"]], 3))
    unit = np.eye(3)
    moves = [np.tile(axis, len(positions)) for axis in unit]
    turns = [np.cross(axis, positions).ravel() for axis in unit]
    rigid = np.stack(moves + turns, axis=1) * roots[:, None]
    left, singular, _ = np.linalg.svd(rigid)
    free = left[:, int((singular > 1e-8).sum()) :]
    matrix = molecule["true"] / roots[:, None] / roots
    return free @ np.linalg.eigh(free.T @ matrix @ free)[1] / roots[:, None]


def test_consistency_vanishes_on_a_quadratic_surface_and_sees_an_error() -> None:
    batch = labelled_batch()
    hessian = batch["hessian"].requires_grad_()
    size = 3 * batch["ptr"].diff()

    def forces(positions: Tensor) -> Tensor:  # of E = ½ xᵀ H x, molecule by molecule
        parts = [
            -hessian[row, : size[row], : size[row]]
            @ positions[slice(*batch["ptr"][row : row + 2])].ravel()
            for row in range(len(SIZES))
        ]
        return torch.cat(parts).view(-1, 3)

    direction = random_directions(batch)
    moved = forces(displace(batch, direction, 0.01)["pos"])
    prediction = {"hessian": hessian, "forces": forces(batch["pos"])}
    assert value(consistency_loss(prediction, moved, direction, batch, 0.01)) < 1e-9
    identity = torch.eye(hessian.shape[1], dtype=hessian.dtype)
    off = {**prediction, "hessian": hessian.detach() + 0.2 * identity}
    expected = [
        0.2 * direction[slice(*batch["ptr"][row : row + 2])].abs().mean().item()
        for row in range(len(SIZES))
    ]
    term = consistency_loss(off, moved, direction, batch, 0.01)
    assert value(term) == pytest.approx(np.mean(expected))
    term[0].backward()  # reaches the energy surface, here through the forces
    assert hessian.grad is not None


@pytest.mark.parametrize("directions", [random_directions, fixed_directions])
def test_directions_have_unit_length_per_molecule(directions) -> None:  # type: ignore[no-untyped-def]
    batch = labelled_batch()
    squares = directions(batch).square().sum(1)
    lengths = torch.zeros(len(SIZES), dtype=squares.dtype).index_add(0, batch["batch"], squares)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_without_any_label_every_loss_is_zero_with_zero_gradient() -> None:
    batch = labelled_batch()
    batch |= {name: torch.zeros_like(batch[name]) for name in ("w_energy", "w_forces", "w_hessian")}
    prediction = random_prediction(batch)
    loss = HIPLoss(eigen=1.0)
    terms = loss.terms(prediction, batch)
    assert set(terms) == {"energy", "forces", "hessian", "eigen"}
    torch.stack([total for total, _ in terms.values()]).sum().backward()
    for name, (total, count) in terms.items():
        assert (total.item(), count.item()) == (0.0, 0), name
    assert all(p.grad.abs().sum().item() == 0 for p in prediction.values())  # type: ignore[union-attr]


def test_exact_forces_have_a_finite_gradient() -> None:
    batch = labelled_batch()
    forces = batch["forces"].clone().requires_grad_()
    forces_loss({"forces": forces}, batch, "l2norm", Huber())[0].backward()
    assert forces.grad is not None
    assert forces.grad.isfinite().all()


def test_terms_of_weight_zero_are_left_out() -> None:
    batch = labelled_batch()
    loss = HIPLoss(energy=0, forces=0, hessian=1)
    assert set(loss.terms(random_prediction(batch), batch)) == {"hessian"}
    assert math.isclose(loss.weights["hessian"], 1.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: HIPLoss(forces=-1), "loss.forces is -1"),
        (lambda: HIPLoss(consistency_step=0), "loss.consistency_step"),
        (lambda: Huber(factors=(1.0,)), "one factor more"),
        (lambda: EigenTerms(lowest=(1, 2)), "loss.eigen_terms"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=words):
        make()
