"""The network on batches of fixed shape, as programs outside Python evaluate it."""

from typing import Any

import pytest
import torch
from samples import random_molecule, small_net
from torch import Tensor

from sciml.hip import HIPTask
from sciml.hip.data.batch import collate
from sciml.hip.net import MACEHIP, HessianHead, Interaction
from sciml.hip.net.export import INPUTS, OUTPUTS, Program, atom_table, sample_batch

BATCH = collate([random_molecule(size, 0) for size in (9, 4, 1, 6)], 5.0)
NAMES = tuple(port.name for port in OUTPUTS)


def evaluate(net: MACEHIP, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    inputs = {**batch, "atoms": atom_table(batch)}
    found = Program(net, NAMES)(*(inputs[port.name] for port in INPUTS))
    return dict(zip(NAMES, found, strict=True))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"max_L": 3},
        {"num_interactions": 1},
        {"correlation": 1, "interaction": Interaction(first="residual", rest="agnostic")},
        {"rules": "translation"},
        {"rules": "none", "head": HessianHead(dim=6, num_basis=5, mlp=(12,), diag="node")},
    ],
    ids=str,
)
def test_fixed_shapes_give_what_the_network_gives(arguments: dict[str, Any]) -> None:
    net = small_net(**arguments).eval()
    expected = net(BATCH)
    for name, value in evaluate(net, BATCH).items():
        assert (value - expected[name]).abs().max() < 1e-12 * expected[name].abs().max()


def test_molecule_with_an_unknown_element_is_nan_and_no_other() -> None:
    net = small_net()
    batch = {**BATCH, "z": BATCH["z"].clone()}
    batch["z"][1] = 92  # in the first molecule
    found, whole = evaluate(net, batch), evaluate(net, BATCH)
    first = BATCH["batch"] == 0
    assert found["total_energy"][0].isnan()
    assert found["forces"][first].isnan().all()
    assert torch.equal(found["total_energy"][1:], whole["total_energy"][1:])
    assert torch.equal(found["forces"][~first], whole["forces"][~first])
    assert torch.equal(found["hessian"][1:], whole["hessian"][1:])


def test_frozen_network_learns_again_after_train() -> None:
    net = small_net()
    before = evaluate(net, BATCH)["energy"]
    net.train()
    with torch.no_grad():
        for parameter in net.layers[0].contraction.parameters():
            parameter.mul_(1.1)
    assert not torch.equal(evaluate(net, BATCH)["energy"], before)


def test_parts_follow_from_the_head() -> None:
    assert HIPTask(small_net()).export_parts() == ("hessian", "forces", "energy")
    assert HIPTask(small_net(head=None)).export_parts() == ("forces", "energy")


def test_samples_hold_only_elements_with_a_reference_energy() -> None:
    net = small_net().float()
    net.scale.e0[2] = torch.nan  # nitrogen was not in the training data
    example = HIPTask(net).export_inputs("energy")
    assert example.metadata["elements"] == [1, 6, 8]
    for sample in example.samples.values():
        assert set(sample.inputs["z"].tolist()) <= {1, 6, 8}
        assert sample.expected["total_energy"].isfinite().all()


@pytest.mark.parametrize("cutoff", [2.0, 5.0, 50.0])
def test_sizes_of_the_traced_sample_differ_for_every_cutoff(cutoff: float) -> None:
    batch = sample_batch((9, 4, 7, 5), (1, 8), cutoff)
    sizes = [*batch["nbr"].shape, *atom_table(batch).shape, len(batch["pair_i"]), 3]
    assert len(set(sizes)) == len(sizes)
