"""Names, shapes and random values of the tensors in files of the older training code."""

import torch
from slow_xecv1 import legacy_edges
from torch import Tensor

WIDTHS = {"angle": 2, "energy": 1, "timing": 1, "uvwFI": 3, "angleVec": 3, "n_gamma": 5}
Shapes = dict[str, tuple[int, ...]]


def linear(name: str, ins: int, outs: int) -> Shapes:
    return {f"{name}.weight": (outs, ins), f"{name}.bias": (outs,)}


def norm(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def hidden_layers(name: str, dim: int) -> Shapes:
    grn = {f"{name}.grn.{part}": (1, 1, 1, 4 * dim) for part in ("gamma", "beta")}
    layers = linear(f"{name}.pwconv1", dim, 4 * dim) | linear(f"{name}.pwconv2", 4 * dim, dim)
    return norm(f"{name}.norm", dim) | grn | layers


def conv_block(name: str, dim: int) -> Shapes:
    conv = {f"{name}.dwconv.weight": (dim, 1, 7, 7), f"{name}.dwconv.bias": (dim,)}
    return conv | hidden_layers(name, dim)


def head(name: str, size: int, hidden: int, width: int) -> Shapes:
    return (
        linear(f"{name}.0", size, hidden)
        | norm(f"{name}.1", hidden)
        | linear(f"{name}.4", hidden, hidden)
        | linear(f"{name}.6", hidden, width)
    )


def encoder_names(dim: int, feedforward: int, layers: int, tokens: int) -> Shapes:
    c = dim // 32
    names: Shapes = {
        "pos_embed": (1, tokens, dim), "top_hex_indices": (73,), "bottom_hex_indices": (73,),
        "hex_edge_index": (3, 431), "backbone.stem.0.weight": (c, 2, 4, 4),
        "backbone.stem.0.bias": (c,), "backbone.downsample.1.weight": (2 * c, c, 2, 2),
        "backbone.downsample.1.bias": (2 * c,),
    }  # fmt: skip
    names |= norm("backbone.stem.1", c) | norm("backbone.downsample.0", c)
    for block in range(2):
        names |= conv_block(f"backbone.stage1.{block}", c)
    for block in range(3):
        names |= conv_block(f"backbone.stage2.{block}", 2 * c)
    names |= linear("hex_encoder.stem.0", 2, 96) | norm("hex_encoder.stem.1", 96)
    for layer in range(4):
        name = f"hex_encoder.layers.{layer}"
        names |= {
            f"{name}.spatial_conv.weight": (1, 7, 96),
            f"{name}.spatial_conv.bias": (1, 1, 96),
        }
        names |= hidden_layers(name, 96)
    names |= norm("hex_encoder.proj.0", 96) | linear("hex_encoder.proj.1", 96, dim)
    for layer in range(layers):
        name = f"fusion_transformer.layers.{layer}"
        names[f"{name}.self_attn.in_proj_weight"] = (3 * dim, dim)
        names[f"{name}.self_attn.in_proj_bias"] = (3 * dim,)
        names |= linear(f"{name}.self_attn.out_proj", dim, dim)
        names |= linear(f"{name}.linear1", dim, feedforward)
        names |= linear(f"{name}.linear2", feedforward, dim)
        names |= norm(f"{name}.norm1", dim) | norm(f"{name}.norm2", dim)
    return names


def names_of(
    dim: int,
    hidden: int,
    feedforward: int,
    *,
    layers: int,
    tokens: int,
    nll: tuple[str, ...] = (),
) -> Shapes:
    """Of a regressor."""
    encoder = encoder_names(dim, feedforward, layers, tokens)
    names = {f"backbone.{name}": shape for name, shape in encoder.items()}
    for task, width in WIDTHS.items():
        wide = width * (2 if task in nll else 1)
        names |= head(f"heads.{task}", tokens * dim, hidden, wide)
    return names


def random_tensors(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Norms near 1, everything else near 0; indices as the older code has them."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes.items():
        last = name.rpartition(".")[2]
        if last in {"top_hex_indices", "bottom_hex_indices"}:
            found[name] = torch.arange(73) + (4596 if last.startswith("top") else 4669)
        elif last == "hex_edge_index":
            found[name] = torch.from_numpy(legacy_edges())
        else:
            fan = max(1, int(torch.tensor(shape[1:]).prod())) if len(shape) in {2, 4} else 25
            value = torch.randn(shape, generator=generator) / fan**0.5
            is_norm = len(shape) == 1 and last == "weight"
            found[name] = value + 1 if is_norm else value
    return found
