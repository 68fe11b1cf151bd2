import math

import numpy as np
import pytest
import torch
from slow_xecv1 import (
    bilinear,
    conv_block,
    doubles,
    face_token,
    fuse,
    grn,
    hex_block,
    hex_token,
    legacy_edges,
    norm_channels,
    true_edges,
)
from torch import Tensor, nn

from sciml.xec.net.convnext import GRN, ChannelLayerNorm, ConvNeXtV2Block, DropPath
from sciml.xec.net.hexnext import HexConvolution, HexNeXtBlock
from sciml.xec.net.v1.backbone import DeepHexEncoder, FaceBackbone
from sciml.xec.net.v1.fusion import Fusion


def stirred(module: nn.Module, seed: int = 0) -> nn.Module:
    """In float64 and evaluation, away from the zeros and ones that parameters start at."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.2 * noise)
    return module


def normal(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def dots(*shape: int, seed: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(*shape, generator=generator) < 0.4).double()


def edges(layout: str) -> Tensor:
    return torch.from_numpy(legacy_edges() if layout == "legacy" else true_edges())


def test_response_normalisation_matches_its_formula() -> None:
    block, x = stirred(GRN(3)), normal(2, 4, 5, 3)
    state = doubles({"g.gamma": block.gamma.data, "g.beta": block.beta.data})
    expected = [grn(one.reshape(-1, 3), state, "g") for one in x.numpy()]
    assert np.allclose(block(x).detach().reshape(2, -1, 3), expected, rtol=0, atol=1e-12)


def test_response_normalisation_starts_as_the_identity() -> None:
    x = normal(2, 4, 5, 3)
    assert torch.equal(GRN(3)(x), x)


def test_response_normalisation_has_the_right_gradients() -> None:
    x = normal(2, 2, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(stirred(GRN(3)), x)


def test_channel_norm_matches_its_formula() -> None:
    norm, x = stirred(ChannelLayerNorm(5)), normal(2, 5, 3, 4)
    state = doubles({"n.weight": norm.weight.data, "n.bias": norm.bias.data})
    expected = [norm_channels(one, state, "n") for one in x.numpy()]
    assert np.allclose(norm(x).detach(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_convolution_block_matches_the_slow_one(masked: bool) -> None:
    block, x, mask = stirred(ConvNeXtV2Block(4)), normal(2, 4, 6, 9), dots(2, 1, 6, 9)
    out = block(x, mask if masked else None).detach()
    state = doubles(block.state_dict())
    for event in range(2):
        hidden = mask[event, 0].numpy() if masked else None
        expected = conv_block(x[event].numpy(), state, hidden)
        assert np.allclose(out[event], expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("layout", ["legacy", "v2"])
def test_hexagonal_block_matches_a_loop_over_edges(layout: str, masked: bool) -> None:
    block, x, mask = stirred(HexNeXtBlock(6)), normal(2, 73, 6), dots(2, 73, 1)
    graph = edges(layout)
    out = block(x, graph, mask if masked else None).detach()
    state = doubles(block.state_dict())
    for event in range(2):
        hidden = mask[event, :, 0].numpy() if masked else None
        expected = hex_block(x[event].numpy(), state, graph.numpy(), hidden)
        assert np.allclose(out[event], expected, rtol=0, atol=1e-11)


def test_messages_go_from_source_to_destination() -> None:
    layer = HexConvolution(1)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(7.0)[None, :, None])
        layer.bias.fill_(10)
    out = layer(torch.tensor([[[1.0], [100.0], [0.0]]]), torch.tensor([[0, 1], [2, 0], [3, 5]]))
    assert out.flatten().tolist() == [510, 10, 13]  # 10 + 5 · 100, 10, 10 + 3 · 1


@pytest.mark.parametrize("side", [(40, 21), (12, 3), (2, 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_token_of_a_rectangular_face_matches_the_slow_one(
    side: tuple[int, int], masked: bool
) -> None:
    height, width = 2 * side[0] + 1, 2 * side[1] + 1
    net = stirred(FaceBackbone(64, 0.0))
    image, mask = normal(1, 2, height, width), dots(1, 1, height, width)
    token = net(image, mask if masked else None)[0].detach()
    hidden = mask[0, 0].numpy() if masked else None
    expected = face_token(image[0].numpy(), doubles(net.state_dict()), hidden)
    assert token.shape == (64,)
    assert np.allclose(token, expected, rtol=0, atol=1e-10)


def test_slow_resize_samples_between_the_nearest_points() -> None:
    # of 8 columns the four points lie at 0.5, 2.5, 4.5, 6.5: means of two neighbours each
    ramp = np.tile(np.arange(8.0), (8, 1))[None]
    assert bilinear(ramp)[0, 0].tolist() == [0.5, 2.5, 4.5, 6.5]
    spike = np.zeros((1, 40, 40))
    spike[0, 7, 7] = 1  # between the points at 4.5 and 14.5: an averaging resize would see it
    assert not bilinear(spike).any()


@pytest.mark.parametrize("masked", [False, True])
def test_token_of_a_hexagonal_face_matches_the_slow_one(masked: bool) -> None:
    net, nodes, mask = stirred(DeepHexEncoder(32, 0.0)), normal(2, 73, 2), dots(2, 73, 1)
    tokens = net(nodes, edges("legacy"), mask if masked else None).detach()
    state = doubles(net.state_dict())
    for event in range(2):
        hidden = mask[event, :, 0].numpy() if masked else None
        expected = hex_token(nodes[event].numpy(), state, legacy_edges(), hidden)
        assert np.allclose(tokens[event], expected, rtol=0, atol=1e-10)


def test_fusion_matches_the_slow_one_and_the_library() -> None:
    net, x = stirred(Fusion(32, 48, 2)), normal(3, 6, 32)
    out = net(x).detach()
    state = doubles(net.state_dict())
    for event in range(3):
        assert np.allclose(out[event], fuse(x[event].numpy(), state), rtol=0, atol=1e-11)
    layer = nn.TransformerEncoderLayer(32, 8, 48, 0.1, "gelu", batch_first=True)
    library = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).double()
    library.load_state_dict(net.state_dict())  # the same names
    assert torch.allclose(out, library.eval()(x), rtol=0, atol=1e-11)


@pytest.mark.parametrize("block", [ConvNeXtV2Block(4), HexNeXtBlock(4)])
def test_a_mask_of_zeros_changes_nothing(block: nn.Module) -> None:
    block, graph = stirred(block), edges("v2")
    if isinstance(block, HexNeXtBlock):
        x = normal(2, 73, 4)
        assert torch.equal(block(x, graph, torch.zeros(2, 73, 1)), block(x, graph))
    else:
        x = normal(2, 4, 5, 6)
        assert torch.equal(block(x, torch.zeros(2, 1, 5, 6)), block(x))


def test_gradients_of_an_empty_face_are_finite() -> None:
    net = FaceBackbone(64, 0.0)
    image = torch.zeros(2, 2, 24, 6, requires_grad=True)
    net(image).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in [image, *net.parameters()])


def test_dropped_branches_are_zero_and_the_others_scaled() -> None:
    torch.manual_seed(0)
    drop, x = DropPath(0.25), torch.ones(4000, 2, 3)
    out = drop(x)
    assert sorted(set(out.flatten().tolist())) == pytest.approx([0, 4 / 3])
    assert torch.equal(out, out[:, :1, :1].expand_as(out))  # by event
    # 4000 draws: the mean is 1 within 5 standard errors of sqrt(1/3 / 4000)
    assert float(out.mean()) == pytest.approx(1, abs=5 * math.sqrt(1 / 3 / 4000))
    assert torch.equal(drop.eval()(x), x)
    with pytest.raises(ValueError, match=r"drop_path_rate is 1\.0"):
        DropPath(1.0)


def test_blocks_drop_their_branch_in_training_only() -> None:
    torch.manual_seed(0)
    block, x = stirred(ConvNeXtV2Block(4, 0.5)), normal(64, 4, 5, 5)
    full = block(x)
    out = block.train()(x)
    kept = x + 2 * (full - x)  # 1 / (1 - 0.5)
    alike = [torch.allclose(out[i], x[i]) or torch.allclose(out[i], kept[i]) for i in range(64)]
    assert all(alike)
    assert 10 < sum(torch.equal(out[i], x[i]) for i in range(64)) < 54
