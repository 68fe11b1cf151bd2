import numpy as np
import pytest
import torch
from gammas import gammas

from sciml.xec.net import XECv2
from sciml.xec.net.v2.channels import channels
from sciml.xec.net.v2.faces import FaceTokens
from sciml.xec.physics.constants import INVALID
from sciml.xec.physics.coordinates import local_frame
from sciml.xec.physics.images import inner_image, outer_fine
from sciml.xec.physics.normalisation import PRESETS
from sciml.xec.physics.sensors import sensors
from sciml.xec.physics.statistics import EventStatistics
from sciml.xec.physics.windows import SIZE, cut

ALL = ("uvwFI", "energy", "timing", "angleVec", "n_gamma")
SMALL = {"width": 32, "layers": 1, "channels": (8, 8, 8), "blocks": (1, 1), "hidden": 16}


def small(tasks: tuple[str, ...] = ALL, **other: object) -> XECv2:
    torch.manual_seed(0)
    nll = [task for task in tasks if task != "n_gamma"]
    net = XECv2(tasks, nll, **(SMALL | other)).eval()  # type: ignore[arg-type]
    weights = np.full(6, 1e-7, np.float32)
    net.set_statistics(EventStatistics(weights, (4.0, 0.1), 4.0, 10))
    for head in net.heads.values():  # as if it had learnt something
        torch.nn.init.normal_(head[-1].weight, std=0.2)
    return net


def test_the_default_has_fewer_than_eight_million_parameters() -> None:
    count = sum(p.numel() for p in XECv2().parameters())
    assert 1e6 < count < 8e6


def test_outputs_are_anchored() -> None:
    net, batch = XECv2(ALL, ALL[:4], **SMALL).eval(), gammas(4)  # type: ignore[arg-type]
    net.set_statistics(EventStatistics(np.full(6, 1e-7, np.float32), (4.0, 0.1), 4.0, 10))
    with torch.no_grad():
        found = net(batch)
        anchors = net.conventional(batch["npho"], batch["relative_time"])
    assert {name: out.shape[1] for name, out in found.items()} == {
        "uvwFI": 6, "energy": 2, "timing": 2, "angleVec": 4, "n_gamma": 5,
    }  # fmt: skip
    torch.testing.assert_close(found["uvwFI"][:, :2], anchors.uv)
    torch.testing.assert_close(found["uvwFI"][:, 2], (anchors.depth + 0.5).log())
    radial = local_frame(torch.cat([anchors.spot, anchors.depth[:, None]], 1))[:, 0]
    torch.testing.assert_close(found["angleVec"][:, :3], radial)
    torch.testing.assert_close(found["energy"][:, 0], anchors.energy.log())
    torch.testing.assert_close(found["timing"][:, 0], 1e9 * batch["time_min"] + anchors.time)
    value, sigma = net.space("energy").leave(*found["energy"].chunk(2, 1))
    torch.testing.assert_close(value[:, 0], anchors.energy)
    torch.testing.assert_close(sigma[:, 0], 0.05 * anchors.energy)  # one unit of the head


def test_a_later_event_is_later_and_else_the_same() -> None:
    net, batch = small(), gammas(3)
    with torch.no_grad():
        before = net(batch)
        after = net(batch | {"time_min": batch["time_min"] + 5e-8})
    torch.testing.assert_close(
        after["timing"][:, 0], before["timing"][:, 0] + 50, atol=1e-3, rtol=0
    )
    for name in ("uvwFI", "energy", "angleVec", "n_gamma"):
        torch.testing.assert_close(after[name], before[name])


def test_directions_are_unit_vectors() -> None:
    with torch.no_grad():
        found = small()(gammas(4))["angleVec"][:, :3]
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("value", [INVALID, torch.inf, torch.nan])
def test_all_ways_to_be_dead_are_the_same(value: float) -> None:
    net, batch = small(), gammas(2)
    npho, other = batch["npho"].clone(), batch["npho"].clone()
    npho[:, 1000:1010], other[:, 1000:1010] = INVALID, value
    with torch.no_grad():
        first = net(batch | {"npho": npho})
        time = batch["relative_time"].clone()
        time[:, 1000:1010] = 123.0  # of a dead sensor: not looked at
        second = net(batch | {"npho": other, "relative_time": time})
        alive = net(batch)
    for name in first:
        assert torch.equal(first[name], second[name])
        assert not torch.equal(first[name], alive[name])


def test_events_do_not_see_each_other() -> None:
    net, batch = small().double(), gammas(5)
    order = torch.tensor([3, 0, 4])
    with torch.no_grad():
        whole = net(batch)
        part = net({name: values[order] for name, values in batch.items()})
    for name in whole:
        torch.testing.assert_close(part[name], whole[name][order], rtol=1e-10, atol=1e-12)


def test_windows_are_slices_of_the_padded_image() -> None:
    inner = torch.randn(3, 2, 4092)
    place = torch.tensor([[0, 0], [92, 43], [40, 20]])
    found = cut(inner, place)
    for event, (row, col) in enumerate(place.tolist()):
        for i in range(SIZE):
            for j in range(SIZE):
                r, c = row + i - 10, col + j - 10
                inside = 0 <= r < 93 and 0 <= c < 44
                expected = inner[event, :, r * 44 + c] if inside else torch.zeros(2)
                assert torch.equal(found[event, :, i, j], expected)


def test_tokens_carry_where_their_sensors_are() -> None:
    tokens = FaceTokens(32, 8, 1, 8, 0.0)
    position, face = sensors().position, sensors().face
    assert len(tokens.place) == 72 + 4 + 4 + 9 + 2 + 2
    assert tokens.face.bincount().tolist() == [72, 4, 4, 9, 2, 2]
    image = np.pad(inner_image(), ((1, 2), (2, 2)), mode="edge")
    np.testing.assert_allclose(
        tokens.place[7], position[image[8:16, 8:16].ravel()].mean(0) / 100, rtol=1e-12
    )
    fine, _ = outer_fine()
    np.testing.assert_allclose(
        tokens.place[80], position[fine[:15, :24].ravel()].mean(0) / 100, rtol=1e-12
    )
    np.testing.assert_allclose(tokens.place[89], position[face == 4].mean(0) / 100, rtol=1e-12)


def test_light_that_is_spread_over_cells_is_divided_before_the_root() -> None:
    batch, net = gammas(1), small()
    anchors = net.conventional(batch["npho"], batch["relative_time"])
    x = channels(anchors, PRESETS["v2"])
    seen: list[torch.Tensor] = []
    net.faces.outer_stem.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net.faces._outer(x)
    fine, cells = outer_fine()
    light = np.sqrt(batch["npho"][0].numpy()[fine] / cells / 20000)
    ratio = seen[0][0, 0].detach().numpy()[light > 0] / light[light > 0]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)


def test_every_parameter_learns() -> None:
    net = small().train()
    torch.manual_seed(1)
    found = net(gammas(4))
    sum((out * torch.randn_like(out)).sum() for out in found.values()).backward()  # type: ignore[union-attr]
    lost = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert lost == []


def test_weight_decay_spares_norms_embeddings_and_biases() -> None:
    net = small()
    spared, names = net.no_decay(), {name for name, _ in net.named_parameters()}
    assert spared <= names
    assert {"queries", "faces.hex_node", "faces.kind.weight", "faces.inner_norm.weight"} <= spared
    assert {"faces.hex_block.spatial_conv.bias", "window.blocks.0.grn.gamma"} <= spared
    assert all(name.endswith("weight") for name in names - spared)
    assert {"heads.energy.2.weight", "faces.hex_block.spatial_conv.weight"} <= names - spared


def test_single_precision_agrees_with_double() -> None:
    net, batch = small(), gammas(3)
    with torch.no_grad():
        single = net(batch)
        double = net.double()(batch)
    for name in single:
        torch.testing.assert_close(single[name].double(), double[name], rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tasks": ["angle"]}, "write angleVec for angle"),
        ({"width": 40}, "multiple of 32"),
        ({"tasks": ["mass"], "nll_tasks": []}, "no task 'mass'"),
        ({"normalisation": "other"}, "normalisation is 'other'"),
    ],
)
def test_wrong_arguments_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        XECv2(**({"nll_tasks": []} | given))  # type: ignore[arg-type]
