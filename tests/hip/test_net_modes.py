"""Training and evaluation of MACE-HIP: graphs, precision, caches, statistics."""

import copy
from typing import Any

import pytest
import torch
from samples import random_molecule, small_net, statistics
from torch import Tensor

from sciml.hip.data.batch import collate
from sciml.hip.net import MACEHIP, HessianHead, Readout, arrangement
from sciml.hip.net.base import Constant
from sciml.hip.net.convolution import NeighborSum

BATCH = collate([random_molecule(size, 0) for size in (9, 4, 1, 6)], 5.0)


def _output(net: MACEHIP) -> dict[str, Tensor]:
    output: dict[str, Tensor] = net(BATCH)
    return output


def _same(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = 0.0) -> bool:
    return all((ours[key] - theirs[key]).norm() <= tolerance * theirs[key].norm() for key in theirs)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"head": None},
        {"head": None, "num_interactions": 1},
        {"num_interactions": 1, "correlation": 1},
        {"head": HessianHead(dim=6, num_basis=5, mlp=(12,), detach=True)},
        {"head": HessianHead(dim=6, num_basis=5, mlp=(12,), layers="last")},
        {"head": HessianHead(dim=6, num_basis=5, mlp=(12,), rules_detach_forces=False)},
    ],
    ids=str,
)
def test_every_trained_parameter_has_a_gradient(arguments: dict[str, Any]) -> None:
    # what DistributedDataParallel demands of a step on energy, forces and Hessian
    net = small_net(**arguments)
    torch.stack([value.square().sum() for value in _output(net).values()]).sum().backward()
    trained = {name: p.grad for name, p in net.named_parameters() if p.requires_grad}
    assert [name for name, gradient in trained.items() if gradient is None] == []


def test_forces_inside_the_rules_are_detached_unless_asked_for() -> None:
    gradients = []
    for detach in (True, False):
        settings = HessianHead(dim=6, num_basis=5, mlp=(12,), detach=True)
        net = small_net(head=HessianHead(**{**vars(settings), "rules_detach_forces": detach}))
        _output(net)["hessian"].square().sum().backward()
        gradients.append(net.embedding.grad)
    assert gradients[0] is None
    assert gradients[1] is not None


def test_outputs_have_a_graph_only_while_training() -> None:
    net = small_net()
    assert all(value.requires_grad for value in _output(net).values())
    with torch.no_grad():
        assert not any(value.requires_grad for value in _output(net).values())
    net.eval()
    assert not any(value.requires_grad for value in _output(net).values())


def test_modes_agree() -> None:
    net = small_net()
    trained = {key: value.detach() for key, value in _output(net).items()}
    net.eval()
    plain = _output(net)
    with torch.no_grad():
        assert _same(_output(net), plain)
    with torch.inference_mode():
        batch = {key: value.clone() for key, value in BATCH.items()}  # inference tensors
        assert _same(net(batch), plain)
    assert _same(trained, plain, 1e-13)


def test_what_is_not_asked_for_is_left_out() -> None:
    net = small_net().eval()
    full = _output(net)
    assert set(full) == {"energy", "total_energy", "forces", "hessian"}
    assert set(net(BATCH, hessian=False)) == {"energy", "total_energy", "forces"}
    assert set(net(BATCH, hessian=False, forces=False)) == {"energy", "total_energy"}
    assert torch.equal(net(BATCH, forces=False)["hessian"], full["hessian"])


def test_rules_may_be_changed_after_training() -> None:
    net = small_net().eval()
    full = _output(net)["hessian"]
    net.rules = "none"
    free = _output(net)["hessian"]
    net.rules = "translation"
    shifted = _output(net)["hessian"]
    rows = [hessian.unflatten(2, (-1, 3)).sum(2).abs().max() for hessian in (full, free, shifted)]
    assert rows[0] < 1e-10
    assert rows[1] > 1e-3
    assert rows[2] < 1e-10


@pytest.mark.parametrize("how", ["data", "copy", "load"])
def test_folded_weights_follow_the_weights(how: str) -> None:
    net, other = small_net(0).eval(), small_net(1).eval()
    before = _output(net)
    if how == "load":
        net.load_state_dict(other.state_dict())
    for ours, theirs in zip(net.parameters(), other.parameters(), strict=True):
        if how == "data":
            ours.data.copy_(theirs.data)  # leaves no trace in the version of the parameter
        elif how == "copy":
            with torch.no_grad():
                ours.copy_(theirs)
    assert _same(_output(net), _output(other))
    assert not _same(_output(net), before)


def test_blocks_of_receivers_only_order_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    net = small_net().eval()
    expected = _output(net)
    for cache, filled in ((1, 0.75), (1 << 40, 0.0)):  # one receiver a block; one block for all
        monkeypatch.setattr(arrangement, "CACHE", cache)
        monkeypatch.setattr(arrangement, "FILLED", filled)
        assert _same(_output(net), expected, 1e-13)


def test_autocast_rounds_only_channel_mixing_and_keeps_dtypes() -> None:
    net = small_net(channels=16).float()
    exact = _output(net)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = _output(net)
    for key, value in exact.items():
        assert rounded[key].dtype == value.dtype
        difference = (rounded[key] - value).norm() / value.norm()
        assert 0 < difference < 0.05
    rounded["hessian"].square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_casts_keep_statistics_and_constants_exact() -> None:
    net = small_net(readout=Readout(shift="mean"))
    expected = _output(net)
    again = net.float().double()
    assert again.scale.e0.dtype == torch.float64
    energies = statistics().e0[again.species(BATCH["z"])]
    sums = torch.zeros(4, dtype=torch.float64).index_add(0, BATCH["batch"], energies)
    output = _output(again)
    assert torch.allclose(output["total_energy"] - output["energy"], sums, rtol=1e-14, atol=0)
    constants = [module for module in again.modules() if isinstance(module, Constant)]
    assert all(torch.equal(constant.value, constant.exact) for constant in constants)
    assert not _same(output, expected)  # the weights were rounded


@pytest.mark.parametrize(
    ("readout", "scale", "shift"),
    [
        (Readout(), 0.4, 0.0),
        (Readout(scaling="std"), 0.2, 0.0),
        (Readout(scaling="none", shift="mean"), 1.0, -0.3),
    ],
)
def test_statistics_set_scale_and_shift(readout: Readout, scale: float, shift: float) -> None:
    # numbers of the samples' statistics; a lone atom has only its shift
    unit = small_net(readout=Readout(scaling="none")).eval()
    energy = _output(small_net(readout=readout).eval())["energy"]
    atoms = BATCH["ptr"].diff().double()
    assert torch.allclose(energy, scale * _output(unit)["energy"] + shift * atoms, rtol=1e-12)
    assert energy[2].item() == pytest.approx(shift)


def test_statistics_of_other_elements_are_refused() -> None:
    with pytest.raises(ValueError, match=r"statistics are of the elements \[1, 6\]"):
        small_net().set_statistics(statistics((1, 6)))


def test_weight_decay_spares_vectors_embedding_radial_layers_and_readouts() -> None:
    net = small_net()
    spared = net.no_decay()
    named = dict(net.named_parameters())
    assert spared <= set(named)
    assert {"embedding", "layers.0.convolution.weight", "readouts.1.hidden.weight"} <= spared
    assert all(name in spared for name, parameter in named.items() if parameter.ndim < 2)
    assert not spared & {"layers.0.up.weight", "layers.1.contraction.weights.0"}


def test_derivatives_of_the_neighbor_sum() -> None:
    shapes = ((2, 6, 5), (2, 2, 3), (2, 2, 3, 3))  # 2 receivers, 2 neighbours, m₁ = 3, m₃ = 5
    factors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    matrix, radial, sent = factors
    expected = torch.einsum("gjms,gjc,gjmc->gsc", matrix.view(2, 2, 3, 5), radial, sent)
    torch.testing.assert_close(NeighborSum.apply(*factors), expected)
    assert torch.autograd.gradcheck(NeighborSum.apply, factors)
    assert torch.autograd.gradgradcheck(NeighborSum.apply, factors)


def test_hessian_of_the_energy_by_batched_derivatives() -> None:
    # rows of the Hessian from one vectorised backward pass, against differences of forces
    net = small_net(head=None).eval()
    record = random_molecule(5, 2)
    batch = collate([record], net.cutoff)
    positions = batch["pos"].clone().requires_grad_()
    energy = net.trunk(positions, batch).energy.sum()
    (slope,) = torch.autograd.grad(energy, positions, create_graph=True)
    rows = torch.eye(15, dtype=torch.float64).view(15, 5, 3)

    def row(direction: Tensor) -> Tensor:
        return torch.autograd.grad(slope, positions, direction, retain_graph=True)[0]

    hessian = torch.func.vmap(row)(rows)
    step = torch.zeros_like(batch["pos"])
    step[2, 1] = 1e-4
    forces = [net(batch | {"pos": batch["pos"] + sign * step})["forces"] for sign in (1, -1)]
    difference = (forces[1] - forces[0]) / 2e-4
    torch.testing.assert_close(hessian[7], difference, rtol=1e-5, atol=1e-8)


def test_third_derivatives_reach_the_weights() -> None:
    # a loss on the Hessian of the energy itself, by weights: against a difference quotient
    net = small_net(head=None)
    batch = collate([random_molecule(4, 2)], net.cutoff)
    weight = net.layers[1].convolution.weight

    def curvature(of: MACEHIP) -> Tensor:
        positions = batch["pos"].clone().requires_grad_()
        energy = of.trunk(positions, batch).energy.sum()
        (slope,) = torch.autograd.grad(energy, positions, create_graph=True)
        (row,) = torch.autograd.grad(slope[1, 0], positions, create_graph=True)
        return row.square().sum()

    (gradient,) = torch.autograd.grad(curvature(net), weight)
    direction = torch.randn_like(weight)
    values = []
    for sign in (1, -1):
        moved = copy.deepcopy(net)
        with torch.no_grad():
            moved.layers[1].convolution.weight.add_(direction, alpha=sign * 1e-5)
        values.append(curvature(moved).item())
    slope = (values[0] - values[1]) / 2e-5
    assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-5)
