import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from slow_xecv1 import (
    CENTRE,
    Norms,
    coarse_id,
    doubles,
    encode,
    legacy_edges,
    part,
    read_out,
    true_edges,
)
from torch import Tensor
from xecv1_tensors import names_of

from sciml.core.settings import plain
from sciml.xec.net import XECNet, XECv1
from sciml.xec.net.v1.faces import FineGrid, face_images
from sciml.xec.physics.normalisation import PRESETS

Layout = Literal["legacy", "v2"]
ALL = ("angle", "energy", "timing", "uvwFI", "angleVec", "n_gamma")


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small(seed: int = 0, **options: Any) -> XECv1:
    """A narrow network away from the values that its parameters start at."""
    torch.manual_seed(seed)
    net = XECv1(**{"tasks": ALL, "encoder_dim": 64, "hidden_dim": 16, **options})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


def events(number: int = 3, seed: int = 0) -> dict[str, Tensor]:
    """Readings with dead sensors, sensors without a hit, noise below zero, nan and infinity."""
    generator = torch.Generator().manual_seed(seed)
    npho = torch.randn(number, 4760, generator=generator).mul(2).add(5).exp()
    time = 1e-8 * torch.rand(number, 4760, generator=generator)
    lot = torch.rand(number, 4760, generator=generator)
    npho[lot < 0.05], time[lot < 0.1] = 1e10, 1e10
    npho[lot > 0.99] = -0.2
    npho[:, 7], npho[:, 8], npho[:, 9], npho[:, 10] = math.nan, math.inf, -math.inf, -50.0
    time[:, 11], time[:, 4600] = math.nan, -math.inf
    return {"npho": npho, "relative_time": time, "time_min": torch.zeros(number)}


def hidden(number: int = 3, share: float = 0.3) -> Tensor:
    return torch.rand(number, 4760, generator=torch.Generator().manual_seed(5)) < share


# numbers of the older code: specification, section 3
@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({}, 35_583_503),
        ({"outer_mode": "split"}, 37_157_391),
        ({"encoder_dim": 512, "num_fusion_layers": 1}, 8_671_007),
        ({"layout": "v2", "outer_fine_pool": (3, 3)}, 35_583_503),
    ],
)
def test_size_is_that_of_the_older_code(options: dict[str, Any], total: int) -> None:
    with torch.device("meta"):
        assert count(XECv1(**options)) == total


def test_sizes_of_the_parts_are_those_of_the_older_code() -> None:
    with torch.device("meta"):
        net = XECv1()
    encoder = net.backbone
    assert count(encoder.backbone) == 140_768
    assert count(encoder.hex_encoder) == 403_744
    assert count(encoder.fusion_transformer) == 25_192_448
    assert encoder.pos_embed.numel() == 6144
    sizes = {name: count(head) for name, head in net.heads.items()}
    assert sizes == {
        "angle": 1_639_938, "energy": 1_639_681, "timing": 1_639_681,
        "uvwFI": 1_640_195, "angleVec": 1_640_195, "n_gamma": 1_640_709,
    }  # fmt: skip


@pytest.mark.parametrize("mode", ["finegrid", "split"])
def test_tensors_have_the_names_and_shapes_of_older_checkpoints(mode: str) -> None:
    net = XECv1(outer_mode=mode, encoder_dim=64, hidden_dim=16, dim_feedforward=96)
    expected = names_of(64, 16, 96, layers=2, tokens=6 if mode == "finegrid" else 7)
    assert {name: tuple(value.shape) for name, value in net.state_dict().items()} == expected


def test_buffers_are_the_graph_and_the_sensors_of_the_end_faces() -> None:
    legacy, right = small().backbone, small(layout="v2").backbone
    assert torch.equal(legacy.top_hex_indices, torch.arange(4596, 4669))
    assert torch.equal(legacy.bottom_hex_indices, torch.arange(4669, 4742))
    assert legacy.hex_edge_index.shape == (3, 431)
    assert right.hex_edge_index.shape == (3, 439)
    for net, edges in ((legacy, legacy_edges()), (right, true_edges())):
        own = {tuple(edge) for edge in net.hex_edge_index.T.tolist()}
        assert own == {tuple(edge) for edge in edges.T.tolist()}


def test_images_are_laid_out_as_the_sensors_are() -> None:
    x = torch.stack([torch.arange(4760.0), -torch.arange(4760.0)], -1)[None]
    faces = face_images("v2", "split", None, PRESETS["legacy"])
    assert list(faces) == ["inner", "outer_coarse", "outer_center", "us", "ds"]
    ids = {name: face(x).image[0, 0].long() for name, face in faces.items()}
    assert all(torch.equal(face(x).image[0, 1], -ids[name]) for name, face in faces.items())
    assert int(ids["inner"][92, 43]) == 4091
    assert int(ids["inner"][1, 0]) == 44
    assert int(ids["us"][23, 5]) == 4451
    assert int(ids["ds"][1, 0]) == 4458
    assert ids["outer_center"].tolist() == np.array(CENTRE).T.tolist()
    for row, column in ((0, 0), (0, 1), (1, 0), (8, 23)):
        assert int(ids["outer_coarse"][row, column]) == coarse_id(row, column, "v2")
    legacy = face_images("legacy", "split", None, PRESETS["legacy"])["outer_coarse"]
    assert torch.equal(legacy(x).image[0, 0].long(), torch.arange(4092, 4308).view(9, 24))


@pytest.mark.parametrize("preset", ["legacy", "mae", "tuned"])
def test_fine_grid_of_the_right_layout_shares_photons(preset: str) -> None:
    norm = PRESETS[preset]
    npho, time = torch.full((1, 4760), 3000.0).double(), torch.full((1, 4760), 1e-8).double()
    npho[0, 4742], npho[0, 4300] = 1e10, 1e10  # a cell of the centre, one of the coarse map
    x = torch.stack([norm.npho(npho), norm.time(npho, time)], -1)
    image = FineGrid("v2", None, norm)(x).image[0]
    cell = norm.npho(torch.tensor([200.0, 500.0]).double())  # 3000 / 15 and 3000 / 6
    assert image[0, 0, 0].item() == pytest.approx(cell[0].item(), abs=1e-12)
    assert image[0, 20, 33].item() == pytest.approx(cell[1].item(), abs=1e-12)
    assert int((image[0] == -1).sum()) == 15 + 6
    assert int((image[1] == -1).sum()) == 15 + 6
    photons = norm.inverse_npho(image[0][image[0] != -1]).sum()
    assert float(photons) == pytest.approx(3000 * (234 - 2), rel=1e-9)
    pooled = FineGrid("v2", (5, 3), norm)(x).image[0]
    assert pooled.shape == (2, 9, 24)
    assert pooled[0, 0, 0].item() == pytest.approx(norm.npho(npho)[0, 0].item(), abs=1e-12)
    assert int((pooled == -1).sum()) == 2  # the coarse one, in both channels


def test_pooled_mask_hides_what_any_cell_hides() -> None:
    x, mask = torch.zeros(1, 4760, 2), torch.zeros(1, 4760)
    mask[0, 4742] = 1  # centre row 0, column 1: fine rows 18 to 20, columns 30 and 31
    whole = FineGrid("v2", None, PRESETS["legacy"])(x, mask).mask
    assert whole is not None
    assert whole[0, 0].nonzero().tolist() == [[r, c] for r in (18, 19, 20) for c in (30, 31)]
    pooled = FineGrid("v2", (2, 2), PRESETS["legacy"])(x, mask).mask
    assert pooled is not None
    assert pooled.shape == (1, 1, 22, 36)
    assert pooled[0, 0].nonzero().tolist() == [[9, 15], [10, 15]]
    legacy = FineGrid("legacy", None, PRESETS["legacy"])(x, mask).mask
    assert legacy is not None
    assert not legacy.any()  # the older code does not see the centre


CASES = [
    ("legacy", False, None),
    ("legacy", False, (3, 3)),
    ("legacy", False, (2, 2)),
    ("legacy", True, None),
    ("v2", False, None),
    ("v2", False, (4, 5)),
    ("v2", True, None),
]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("layout", "split", "pool"), CASES)
def test_outputs_match_the_slow_network(
    layout: Layout, split: bool, pool: tuple[int, int] | None, masked: bool
) -> None:
    net = small(layout=layout, outer_mode="split" if split else "finegrid", outer_fine_pool=pool)
    net, batch, norms = net.double(), events(1), Norms()
    batch = {name: value.double() for name, value in batch.items()}
    mask = hidden(1) if masked else None
    with torch.no_grad():
        x = net.normalise(batch)
        tokens = net.encode(x, mask)
        outputs = net.predict(tokens)
    slow = norms.sensors(batch["npho"][0].numpy(), batch["relative_time"][0].numpy())
    assert np.allclose(x[0], slow, rtol=0, atol=1e-12)
    state = doubles(net.state_dict())
    flags = None if mask is None else mask[0].double().numpy()
    expected = encode(
        slow, part(state, "backbone."), layout=layout, split=split, pool=pool, mask=flags
    )
    assert tokens.shape == (1, 7 if split else 6, 64)
    assert np.allclose(tokens[0], expected, rtol=0, atol=1e-9)
    for task in ALL:
        numbers = read_out(expected, part(state, f"heads.{task}."))
        assert np.allclose(outputs[task][0], numbers, rtol=0, atol=1e-9), task


def test_outputs_have_the_width_of_their_task() -> None:
    net = small(tasks=("uvwFI", "n_gamma", "energy"), nll_tasks=("uvwFI",))
    shapes = {name: tuple(value.shape) for name, value in net(events(2)).items()}
    assert shapes == {"uvwFI": (2, 6), "n_gamma": (2, 5), "energy": (2, 1)}
    assert list(shapes) == list(net.tasks)
    assert isinstance(net, XECNet)


def test_only_heads_in_use_are_trained() -> None:
    net = small(tasks=("angle", "energy")).train()
    sum(value.square().sum() for value in net(events(2)).values()).backward()
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    heads = {name.split(".")[1] for name in trained if name.startswith("heads.")}
    assert heads == {"angle", "energy"}
    for name, parameter in net.named_parameters():
        assert (parameter.grad is not None) == (name in trained), name
        assert parameter.grad is None or bool(parameter.grad.isfinite().all()), name


@pytest.mark.parametrize("layout", ["legacy", "v2"])
def test_gradients_of_the_inputs_are_finite(layout: Layout) -> None:
    net = small(layout=layout, outer_fine_pool=(3, 3))
    x = net.normalise(events(2)).requires_grad_()
    net.encode(x, hidden(2)).square().sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
    assert bool((x.grad[:, :4092].abs().sum(-1)[~hidden(2)[:, :4092]] > 0).any())


@pytest.mark.parametrize(("layout", "split", "pool"), CASES)
def test_a_mask_of_zeros_is_no_mask(
    layout: Layout, split: bool, pool: tuple[int, int] | None
) -> None:
    net = small(layout=layout, outer_mode="split" if split else "finegrid", outer_fine_pool=pool)
    x = net.normalise(events(2))
    with torch.no_grad():
        assert torch.equal(net.encode(x, torch.zeros(2, 4760, dtype=torch.bool)), net.encode(x))


@pytest.mark.parametrize("pool", [None, (3, 3)])
def test_hidden_sensors_do_not_shine_through(pool: tuple[int, int] | None) -> None:
    net, mask = small(layout="v2", outer_fine_pool=pool), hidden(2)
    x = net.normalise(events(2))
    other = torch.where(mask[..., None], torch.randn(2, 4760, 2), x)
    with torch.no_grad():
        assert torch.allclose(net.encode(x, mask), net.encode(other, mask), atol=1e-6)
        assert not torch.allclose(net.encode(x), net.encode(other), atol=1e-3)


@pytest.mark.parametrize("layout", ["legacy", "v2"])
def test_events_do_not_see_each_other(layout: Layout) -> None:
    net, batch = small(layout=layout), events(4)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        together = net(batch)
        turned = net({name: value[order] for name, value in batch.items()})
        single = [net({name: value[i : i + 1] for name, value in batch.items()}) for i in range(4)]
    for task in ALL:
        assert torch.allclose(turned[task], together[task][order], atol=1e-5)
        alone = torch.cat([one[task] for one in single])
        assert torch.allclose(alone, together[task], atol=1e-5)


def test_single_precision_is_close_to_double() -> None:
    net, batch = small(), events(3)
    with torch.no_grad():
        single = net(batch)
        double = net.double()({name: value.double() for name, value in batch.items()})
    for task in ALL:
        assert single[task].dtype == torch.float32
        assert double[task].dtype == torch.float64
        assert torch.allclose(single[task].double(), double[task], atol=1e-4)


def test_runs_under_mixed_precision() -> None:
    net, batch = small(layout="v2", outer_fine_pool=(3, 3)).train(), events(2)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = net(batch)
    loss = sum(value.float().square().sum() for value in outputs.values())
    loss.backward()
    assert bool(loss.isfinite())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_times_of_dim_sensors_do_not_count() -> None:
    net, batch = small(), events(2)
    dim = batch["npho"] < 100  # the threshold of the preset
    changed = batch | {"relative_time": torch.where(dim, 5e-9, batch["relative_time"])}
    assert torch.equal(net.normalise(batch), net.normalise(changed))
    assert bool((net.normalise(batch)[..., 1][dim] == -1).all())


def test_normalisation_is_that_of_the_settings() -> None:
    batch = events(1)
    tuned = small(normalisation="tuned").normalise(batch)
    values: dict[str, float | str] = {
        "scheme": "sqrt", "npho_scale": 20000, "time_scale": 1.14e-7, "time_shift": -0.46
    }  # fmt: skip
    assert torch.equal(small(normalisation=values).normalise(batch), tuned)
    assert not torch.equal(small().normalise(batch), tuned)


@pytest.mark.export
@pytest.mark.parametrize(("layout", "pool"), [("legacy", None), ("v2", (3, 3))])
def test_exported_program_computes_the_same(layout: Layout, pool: tuple[int, int] | None) -> None:
    net, batch = small(layout=layout, outer_fine_pool=pool), events(7)
    few = {name: value[:3] for name, value in batch.items()}
    shapes = {name: {0: torch.export.Dim.AUTO} for name in few}
    program = torch.export.export(net, (few,), dynamic_shapes=(shapes,)).module()
    with torch.no_grad():
        for size in (2, 7):
            part_of = {name: value[:size] for name, value in batch.items()}
            own, exported = net(part_of), program(part_of)
            assert all(torch.allclose(exported[task], own[task], atol=1e-5) for task in ALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ("angel",)}, "no task 'angel'; its tasks are angle, energy"),
        ({"nll_tasks": ("speed",)}, "no task 'speed'"),
        ({"tasks": ()}, r"tasks is \[\]; give some of"),
        ({"tasks": ("angle", "angle")}, "each once"),
        ({"nll_tasks": ("n_gamma",)}, "logits of classes"),
        ({"normalisation": "best"}, "normalisation is 'best'; give one of legacy"),
        ({"normalisation": {"npho": 1.0}}, "has no 'npho'; its values are scheme"),
        ({"normalisation": {"scheme": "cube"}}, "no scheme 'cube'"),
        ({"encoder_dim": 100}, "encoder_dim 100"),
        ({"num_fusion_layers": -1}, "num_fusion_layers -1"),
        ({"outer_fine_pool": (0, 3)}, r"outer_fine_pool is \[0, 3\]"),
        ({"outer_fine_pool": (46, 3)}, "from 1 to 45 and 72"),
        ({"outer_mode": "split", "outer_fine_pool": (3, 3)}, "'split' does not have"),
        ({"drop_path_rate": 1.5}, r"drop_path_rate is 1\.5"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        XECv1(**{"encoder_dim": 32, **options})


def test_network_is_rebuilt_from_its_settings() -> None:
    net = small(
        tasks=("timing",), outer_fine_pool=(3, 3), normalisation={"npho_scale": 2.0}, seed=3
    )
    settings = plain(net)
    assert settings["class_path"].endswith("XECv1")
    again = XECv1(**settings["init_args"]).eval()
    again.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(again(events())["timing"], net(events())["timing"])


def test_weight_decay_spares_norms_embeddings_and_biases() -> None:
    net = small()
    spared, shapes = net.no_decay(), {n: p.shape for n, p in net.named_parameters()}
    assert spared <= set(shapes)
    assert "backbone.pos_embed" in spared
    assert "backbone.backbone.stage1.0.grn.gamma" in spared
    assert "backbone.hex_encoder.layers.3.spatial_conv.bias" in spared
    assert "heads.angle.1.weight" in spared
    decayed = {name.rpartition(".")[0].split(".")[-1] for name in set(shapes) - spared}
    assert decayed == {
        "0", "1", "4", "6", "dwconv", "pwconv1", "pwconv2", "spatial_conv", "self_attn",
        "out_proj", "linear1", "linear2",
    }  # fmt: skip
    assert all(name.endswith(("weight", "in_proj_weight")) for name in set(shapes) - spared)
