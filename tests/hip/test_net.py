"""MACE-HIP against its assembly from e3nn, and what its options and modes promise."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import E3nnMACE, degree_major
from samples import random_molecule, small_net
from torch import Tensor

from sciml.hip.data.batch import collate
from sciml.hip.data.record import Record
from sciml.hip.net import MACEHIP, HessianHead, Interaction, Radial, Readout

Batch = dict[str, Tensor]
BATCH = collate([random_molecule(size, 0) for size in (9, 4, 1, 6)], 5.0)
VARIANTS: list[dict[str, Any]] = [
    {},
    {"head": None},
    {"head": None, "max_L": 0},
    {"max_L": 3},
    {"max_ell": 2},
    {"correlation": 1},
    {"correlation": 2},
    {"correlation": 4, "channels": 3, "max_ell": 2},
    {"num_interactions": 1},
    {"num_interactions": 3},
    {"interaction": Interaction(first="residual", rest="agnostic")},
]


@pytest.fixture
def default_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)  # the dtype in which e3nn makes its constants
    yield
    torch.set_default_dtype(torch.float32)


def _relative(value: Tensor, reference: Tensor) -> float:
    return ((value - reference).norm() / reference.norm()).item()


def _loss(output: Batch) -> Tensor:
    """A loss that depends on every number of the output."""
    terms = [output[key].square().sum() for key in ("energy", "forces", "hessian") if key in output]
    return torch.stack([term.double() for term in terms]).sum()


def _gradients(net: MACEHIP, output: Batch) -> dict[str, Tensor | None]:
    net.zero_grad()
    _loss(output).backward()
    return {name: parameter.grad for name, parameter in net.named_parameters()}


@pytest.mark.usefixtures("default_float64")
@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
def test_network_is_that_of_e3nn(arguments: dict[str, Any]) -> None:
    net = small_net(**arguments).eval()
    reference = E3nnMACE(net).eval()
    ours, theirs = net(BATCH), reference(BATCH)
    for key, value in ours.items():
        assert _relative(value, theirs[key]) < 1e-12
    for index, features in enumerate(net.trunk(BATCH["pos"], BATCH).features):
        assert _relative(degree_major(features), theirs[f"features_{index}"]) < 1e-12


def test_network_is_that_of_e3nn_in_float32() -> None:
    net = small_net().float().eval()
    theirs = E3nnMACE(net).eval()(BATCH)
    for key, value in net(BATCH).items():
        assert _relative(value, theirs[key]) < 2e-6  # float32 rounding of both


@pytest.mark.usefixtures("default_float64")
def test_second_derivatives_are_those_of_e3nn() -> None:
    net = small_net()
    reference = E3nnMACE(net)
    ours = _gradients(net, net(BATCH))
    _loss(reference(BATCH)).backward()
    embedding = ours["embedding"]
    assert embedding is not None
    assert _relative(embedding, reference.embedding.grad) < 1e-11
    radial = ours["layers.1.convolution.weight"]
    last = reference.layers[1].radial[-1].weight
    assert radial is not None
    scale = last.shape[1] ** 0.5  # the reference divides its copy before, ours where it is used
    assert _relative(radial.permute(0, 2, 1).flatten(0, 1) * scale, last.grad) < 1e-11


def test_forces_are_minus_the_gradient() -> None:
    net = small_net().eval()
    record = random_molecule(6, 1)
    forces = net(collate([record], net.cutoff))["forces"]
    step = 1e-4
    for atom, axis in ((0, 0), (3, 1), (5, 2)):
        energies = []
        for sign in (1, -1):
            positions = record.positions.copy()
            positions[atom, axis] += sign * step
            moved = collate([Record(record.numbers, positions)], net.cutoff)
            energies.append(net(moved, hessian=False, forces=False)["energy"].item())
        slope = (energies[0] - energies[1]) / (2 * step)
        assert forces[atom, axis].item() == pytest.approx(-slope, rel=1e-5, abs=1e-8)


def test_energy_and_forces_are_smooth_where_an_atom_leaves_the_cutoff() -> None:
    net = small_net(r_max=2.0, head=None).eval()
    outputs = []
    for distance in (2.0 - 1e-6, 2.0 + 1e-6):
        positions = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [1.0 + distance, 0, 0]]).double()
        record = Record(torch.tensor([6, 8, 1]).numpy(), positions.numpy())
        outputs.append(net(collate([record], net.cutoff)))
    assert (outputs[0]["energy"] - outputs[1]["energy"]).abs() < 1e-10
    assert (outputs[0]["forces"] - outputs[1]["forces"]).abs().max() < 1e-5


def test_atoms_beyond_the_receptive_field_are_not_felt() -> None:
    # a chain where only neighbours are within 2 Å: two layers see two atoms far, so a force, the
    # slope of energies that see two atoms far, depends on atoms up to four steps away
    head = HessianHead(dim=6, num_basis=5, mlp=(12,), r_max=2.0, diag="node")
    net = small_net(r_max=2.0, head=head, rules="none").eval()
    chain = torch.zeros(9, 3, dtype=torch.float64)
    chain[:, 0] = 1.4 * torch.arange(9)
    bent = chain.clone()
    bent[8] += torch.tensor([0.1, 0.3, -0.2])
    numbers = torch.tensor([1, 6, 7, 8, 6, 6, 1, 8, 6]).numpy()
    still, moved = (
        net(collate([Record(numbers, positions.numpy())], net.cutoff))
        for positions in (chain, bent)
    )
    change = (still["forces"] - moved["forces"]).norm(dim=1)
    assert change[:4].max() < 1e-12
    assert change[4] > 1e-9
    blocks = (still["hessian"] - moved["hessian"]).view(9, 3, 9, 3).abs().amax((1, 3))
    assert blocks[:6, :6].max() < 1e-12
    assert blocks[6, 6] > 1e-9
    far = still["hessian"].view(9, 3, 9, 3)[0, :, 2:]  # pairs beyond head.r_max
    assert not far.any()


def test_an_unknown_element_is_named_with_the_setting() -> None:
    net = small_net(elements=(1, 6), head=None)
    batch = collate([Record(torch.tensor([6, 17]).numpy(), torch.eye(3)[:2].double().numpy())], 5.0)
    with pytest.raises(ValueError, match=r"element Cl \(Z = 17\).*model\.net\.elements"):
        net(batch)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"elements": (6, 1)}, r"model\.net\.elements is \[6, 1\]"),
        ({"r_max": 0.0}, r"model\.net\.r_max"),
        ({"max_L": 3, "max_ell": 2}, "max_L <= max_ell"),
        ({"max_ell": 4}, "max_ell <= 3"),
        ({"correlation": 5}, r"model\.net\.correlation is 5"),
        ({"num_interactions": 0}, "num_interactions 0"),
    ],
)
def test_impossible_settings_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MACEHIP(**{"channels": 2, **arguments})


def test_arguments_survive_a_checkpoint(tmp_path: Path) -> None:
    net = small_net(interaction=Interaction(rest="agnostic"), rules="translation").float()
    content = {"hparams": dict(net.hparams), "state_dict": net.state_dict()}
    torch.save(content, tmp_path / "net.ckpt")
    stored = torch.load(tmp_path / "net.ckpt", weights_only=True)
    again = MACEHIP(**stored["hparams"])
    again.load_state_dict(stored["state_dict"])
    assert again.head_settings == HessianHead(dim=6, num_basis=5, mlp=(12,))
    for ours, theirs in zip(net.eval()(BATCH).values(), again.eval()(BATCH).values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "arguments",
    [
        {"radial": Radial(mlp=(12, 12), num_bessel=4)},
        {"radial": Radial(mlp=(12, 12), cutoff_p=6)},
        {"radial": Radial(mlp=(12,))},
        {"radial": Radial(mlp=(12, 12), apply_cutoff=False)},
        {"interaction": Interaction(first="residual")},
        {"interaction": Interaction(rest="agnostic")},
        {"readout": Readout(mlp_dim=4)},
        {"readout": Readout(scaling="std")},
        {"readout": Readout(scaling="none")},
        {"readout": Readout(shift="mean")},
        {"r_max": 4.0},
        {"max_ell": 2},
        {"max_L": 3},
        {"correlation": 2},
        {"num_interactions": 3},
        {"channels": 5},
        {"elements": (1, 6, 7, 8, 9)},
        {"head": None},
        {"rules": "none"},
        {"rules": "translation"},
    ],
    ids=str,
)
def test_every_option_changes_the_network(arguments: dict[str, Any]) -> None:
    plain, changed = small_net(), small_net(**arguments)
    sizes = [sum(p.numel() for p in net.parameters()) for net in (plain, changed)]
    outputs = [net.eval()(BATCH) for net in (plain, changed)]
    different = outputs[0].keys() != outputs[1].keys() or any(
        not torch.equal(outputs[0][key], outputs[1][key]) for key in outputs[0]
    )
    assert sizes[0] != sizes[1] or different


def test_a_cutoff_behind_the_radial_layers_still_ends_smoothly() -> None:
    net = small_net(radial=Radial(mlp=(12, 12), apply_cutoff=False), head=None).eval()
    for layer in net.layers:
        for parameter in layer.convolution.radial.parameters():
            torch.nn.init.normal_(parameter)  # biases too, which the cutoff must overrule
    energies = []
    for distance in (4.9999, 5.0001):
        positions = torch.tensor([[0.0, 0, 0], [0, 0, distance]]).double().numpy()
        batch = collate([Record(torch.tensor([6, 8]).numpy(), positions)], net.cutoff)
        energies.append(net(batch)["energy"])
    assert (energies[0] - energies[1]).abs() < 1e-9
