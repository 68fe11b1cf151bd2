"""The pair head against the formula written out, its symmetries and its options."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from e3nn.o3 import rand_matrix, spherical_harmonics, wigner_3j
from torch import Tensor, nn
from torch.nn.functional import silu

from sciml.hip.data.batch import collate
from sciml.hip.data.record import Record
from sciml.hip.net.hessian import PairHead
from sciml.hip.net.settings import HessianHead
from sciml.hip.physics.blocks import prior_blocks
from sciml.hip.physics.statistics import HessianStatistics

ELEMENTS = (1, 6, 8)
CHANNELS, LAYERS = 6, 2
SETTINGS = HessianHead(dim=4, num_basis=5, mlp=(7, 6))
Blocks = tuple[Tensor, Tensor]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _batch(*sizes: int, scale: float = 2.0) -> dict[str, Tensor]:
    rng = np.random.default_rng(0)
    records = []
    for size in sizes:
        numbers = rng.choice(ELEMENTS, size).astype(np.int64)
        records.append(Record(numbers, scale * rng.normal(size=(size, 3))))
    return collate(records, 5.0)


def _head(**options: Any) -> PairHead:
    head = PairHead(CHANNELS, 2, LAYERS, len(ELEMENTS), replace(SETTINGS, **options)).double()
    for parameter in head.parameters():  # biases and logits away from zero
        nn.init.normal_(parameter, std=0.5)
    table = torch.randn(3, 3, 24, 2, dtype=torch.float64)
    zero = torch.zeros(3, dtype=torch.float64)
    mean = torch.zeros(3, 3, 7, 2, dtype=torch.float64)
    prior = table + table.transpose(0, 1)
    head.set_statistics(HessianStatistics(ELEMENTS, zero, zero, 1.0, 1.0, 1.0, prior, mean))
    return head


def _features(batch: dict[str, Tensor], components: int = 9) -> list[Tensor]:
    shape = (len(batch["z"]), components, CHANNELS)
    return [torch.randn(shape, dtype=torch.float64) for _ in range(LAYERS)]


def _species(batch: dict[str, Tensor]) -> Tensor:
    return torch.searchsorted(torch.tensor(ELEMENTS), batch["z"])


def _run(head: PairHead, features: list[Tensor], batch: dict[str, Tensor]) -> Blocks:
    blocks: Blocks = head(features, _species(batch), batch["pos"], batch)
    return blocks


def _one_way(
    head: PairHead, batch: dict[str, Tensor], features: list[Tensor], *ends: int
) -> Tensor:
    """M_ij of the specification, term by term, without the prior."""
    i, j = ends
    mlp, dim, species = head.coefficients, SETTINGS.dim, _species(batch)
    scalars, vectors, components = head.nodes(features)
    matrices = 5**0.5 * wigner_3j(1, 1, 2, dtype=torch.float64)
    tensor = torch.einsum("abm,nmd->nabd", matrices, components)
    offset = batch["pos"][j] - batch["pos"][i]
    r, u = offset.norm(), offset / offset.norm()
    v_i, v_j, t_i, t_j = vectors[i], vectors[j], tensor[i], tensor[j]
    w_i, w_j = torch.einsum("abd,b->ad", t_i, u), torch.einsum("abd,b->ad", t_j, u)
    order = torch.arange(1, SETTINGS.num_basis + 1)
    radial = (2 / SETTINGS.r_basis) ** 0.5 * torch.sin(order * torch.pi * r / SETTINGS.r_basis) / r
    atom = torch.cat([scalars, mlp.embedding(species)], dim=1)
    invariants = [(v_i * v_j).sum(0), u @ v_i, u @ v_j, u @ w_i, u @ w_j]
    inputs = torch.cat([atom[i], atom[j], radial, *invariants])
    layers = (mlp.near, mlp.far, mlp.radial, mlp.invariants)
    first = torch.cat([layer.weight for layer in layers], dim=1)
    hidden = silu(mlp.hidden[0](silu(first @ inputs + mlp.near.bias)))
    a = mlp.terms(hidden).view(-1, dim)
    block = mlp.isotropic(hidden)[0] * torch.eye(3) + mlp.isotropic(hidden)[1] * torch.outer(u, u)
    for term, p in enumerate((v_i, v_j, w_i, w_j)):
        block = block + torch.outer(p @ a[term], u) + torch.outer(u, p @ a[4 + term])
    block = block + t_i @ a[8] + t_j @ a[9]
    block = block + (v_i * a[10]) @ v_j.T + (v_j * a[11]) @ v_i.T + (w_i * a[12]) @ w_j.T
    block = block + (v_i * mlp.squares(hidden)) @ v_i.T
    return 3 / (1 + (r / 1.5) ** 4) * block


def test_blocks_are_the_formula_from_both_ends() -> None:
    batch = _batch(4, 3)
    head, features = _head(prior=False), _features(batch)
    pair, _ = _run(head, features, batch)
    for index, (i, j) in enumerate(zip(batch["pair_i"], batch["pair_j"], strict=True)):
        there = _one_way(head, batch, features, int(i), int(j))
        back = _one_way(head, batch, features, int(j), int(i))
        torch.testing.assert_close(pair[index], (there + back.mT) / 2)


def test_prior_is_added() -> None:
    batch = _batch(4, 3)
    head, features = _head(), _features(batch)
    pair, _ = _run(head, features, batch)
    expected = prior_blocks(batch, ELEMENTS, head.prior)
    silent = _head(out_scale=0.0)
    torch.testing.assert_close(
        _run(silent, features, batch)[0], prior_blocks(batch, ELEMENTS, silent.prior)
    )
    assert (pair - expected).abs().max() > 0.1


def _wigner(turn: Tensor) -> Tensor:
    """What turns features, from e3nn's harmonics: its Wigner matrices have 7 digits only."""
    points = torch.randn(20, 3, dtype=torch.float64)
    there, here = (spherical_harmonics([0, 1, 2], p, True) for p in (points @ turn.T, points))
    solution: Tensor = torch.linalg.lstsq(here, there).solution
    return solution.mT


def test_geometry_keeps_its_precision_in_mixed_precision() -> None:
    batch = _batch(6)
    batch["pos"] = batch["pos"].float()
    features = [layer.float() for layer in _features(batch)]
    head = _head(out_scale=0.0).float()
    expected = prior_blocks(batch, ELEMENTS, head.prior)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pair, diagonal = _run(head, features, batch)
    assert pair.dtype == diagonal.dtype == torch.float32
    torch.testing.assert_close(pair, expected)


@pytest.mark.parametrize("improper", [False, True])
def test_blocks_turn_with_the_molecule(improper: bool) -> None:
    batch = _batch(5, 1, 2)
    head, features = _head(), _features(batch)
    turn = rand_matrix(dtype=torch.float64) * (-1 if improper else 1)
    wigner = _wigner(turn)
    turned = {**batch, "pos": batch["pos"] @ turn.T}
    expected = _run(head, features, batch)
    found = _run(head, [wigner @ layer for layer in features], turned)
    for blocks, rotated in zip(expected, found, strict=True):
        torch.testing.assert_close(rotated, turn @ blocks @ turn.T, atol=1e-10, rtol=1e-10)


def test_atoms_may_be_listed_in_any_order() -> None:
    batch = _batch(6)
    head, features = _head(), _features(batch)
    pair, diagonal = _run(head, features, batch)
    order = torch.randperm(6)
    shuffled = {**batch, "pos": batch["pos"][order], "z": batch["z"][order]}
    pair_2, diagonal_2 = _run(head, [layer[order] for layer in features], shuffled)
    torch.testing.assert_close(diagonal_2, diagonal[order])
    table = torch.zeros(6, 6, 3, 3, dtype=torch.float64)
    table[batch["pair_i"], batch["pair_j"]] = pair
    table[batch["pair_j"], batch["pair_i"]] = pair.mT
    torch.testing.assert_close(pair_2, table[order[batch["pair_i"]], order[batch["pair_j"]]])


def test_molecules_of_a_batch_do_not_meet() -> None:
    both, alone = _batch(3, 5), _batch(3)
    head, features = _head(), _features(both)
    pair, diagonal = _run(head, features, both)
    pair_1, diagonal_1 = _run(head, [layer[:3] for layer in features], alone)
    torch.testing.assert_close(pair[:3], pair_1)
    torch.testing.assert_close(diagonal[:3], diagonal_1)


def test_pair_blocks_are_not_symmetric() -> None:
    batch = _batch(5)
    pair, diagonal = _run(_head(), _features(batch), batch)
    assert (pair - pair.mT).abs().amax((1, 2)).min() > 1e-3
    assert torch.equal(diagonal, diagonal.mT)


def test_distant_blocks_are_not_zero() -> None:
    batch = _batch(4, scale=8.0)
    distance = (batch["pos"][batch["pair_i"]] - batch["pos"][batch["pair_j"]]).norm(dim=1)
    pair, _ = _run(_head(), _features(batch), batch)
    assert pair[distance > 6].abs().amax((1, 2)).min() > 1e-5


def test_blocks_end_smoothly_at_a_finite_range() -> None:
    batch = _batch(2)
    head, features = _head(r_max=4.0), _features(batch)
    for distance, low, high in ((3.0, 1e-2, 1e2), (3.999, 0.0, 1e-6), (4.1, 0.0, 0.0)):
        positions = torch.tensor([[0.0, 0, 0], [0, distance, 0]], dtype=torch.float64)
        pair, _ = _run(head, features, {**batch, "pos": positions})
        assert low <= pair.abs().max() <= high


def test_higher_orders_of_the_trunk_are_ignored() -> None:
    batch = _batch(4)
    features = _features(batch, components=16)
    head = _head()
    expected = _run(head, [layer[:, :9] for layer in features], batch)
    torch.testing.assert_close(_run(head, features, batch), expected)


def test_trunk_without_tensors_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_L is 1, but the Hessian head needs"):
        PairHead(CHANNELS, 1, LAYERS, 3, SETTINGS)


OPTIONS: list[dict[str, Any]] = [
    {"dim": 3},
    {"r_max": 3.0},
    {"r_basis": 8.0},
    {"num_basis": 4},
    {"mlp": (7,)},
    {"layers": "last"},
    {"layers": "mean"},
    {"layers": "softmax"},
    {"diag": "sumrule"},
    {"diag": "node"},
    {"prior": False},
    {"directional": False},
    {"out_scale": 2.0},
]


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_option_changes_the_blocks(option: dict[str, Any]) -> None:
    batch = _batch(4)
    features = _features(batch)
    torch.manual_seed(1)
    expected = torch.cat(_run(_head(), features, batch))
    torch.manual_seed(1)
    assert not torch.allclose(torch.cat(_run(_head(**option), features, batch)), expected)


@pytest.mark.parametrize("option", [{}, *OPTIONS], ids=str)
def test_every_parameter_is_trained(option: dict[str, Any]) -> None:
    batch = _batch(4, 3)
    head = _head(**option)
    torch.cat(_run(head, _features(batch), batch)).square().sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("detach", [False, True])
def test_detach_keeps_the_gradient_from_the_trunk(detach: bool) -> None:
    batch = _batch(4)
    features = [layer.requires_grad_() for layer in _features(batch)]
    torch.cat(_run(_head(detach=detach), features, batch)).sum().backward()
    assert [layer.grad is None for layer in features] == [detach, detach]


def test_invariants_of_the_direction_can_be_left_out() -> None:
    assert _head(directional=False).coefficients.invariants.in_features == SETTINGS.dim
    assert _head().coefficients.invariants.in_features == 5 * SETTINGS.dim


def test_softmax_of_equal_logits_is_the_mean() -> None:
    batch = _batch(4)
    features = _features(batch)
    learned, mean = _head(layers="softmax"), _head(layers="mean")
    nn.init.zeros_(learned.nodes.mixture)
    mean.load_state_dict(learned.state_dict(), strict=False)
    torch.testing.assert_close(_run(learned, features, batch), _run(mean, features, batch))


def test_diagonal_follows_the_sum_rule() -> None:
    batch = _batch(4)
    pair, diagonal = _run(_head(diag="sumrule"), _features(batch), batch)
    total = sum(
        (block + block.mT) / 2
        for block, i, j in zip(pair, batch["pair_i"], batch["pair_j"], strict=True)
        if 2 in (i, j)
    )
    torch.testing.assert_close(diagonal[2], -torch.as_tensor(total))
