"""An independent XECv1: one event, plain loops, float64, written from the formulas."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf
from torch import Tensor

Array = NDArray[np.float64]
State = Mapping[str, Array]
ROWS = (11, 12, 11, 12, 13, 14)
CENTRE = [
    [4185, 4742, 4186, 4743, 4187],
    [4744, 4745, 4746, 4747, 4748],
    [4194, 4749, 4195, 4750, 4196],
    [4203, 4751, 4204, 4752, 4205],
    [4753, 4754, 4755, 4756, 4757],
    [4212, 4758, 4213, 4759, 4214],
]


def doubles(state: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: value.double().numpy() for name, value in state.items()}


def part(state: State, prefix: str) -> dict[str, Array]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


def dense(x: Array, state: State, name: str) -> Array:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(x: Array, state: State, name: str, eps: float = 1e-5) -> Array:
    """Over the last axis."""
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * state[f"{name}.weight"] + state[f"{name}.bias"]


def norm_channels(x: Array, state: State, name: str) -> Array:
    """Over the first axis of ``(c, h, w)``."""
    return np.moveaxis(norm(np.moveaxis(x, 0, -1), state, name, 1e-6), -1, 0)


def conv(x: Array, state: State, name: str, *, stride: int = 1, pad: int = 0) -> Array:
    """Convolution of ``(c, h, w)``; with one input channel a filter it is depthwise."""
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    outs, ins, rows, columns = weight.shape
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    height = (padded.shape[1] - rows) // stride + 1
    width = (padded.shape[2] - columns) // stride + 1
    out = np.zeros((outs, height, width)) + bias[:, None, None]
    for o in range(outs):
        for i in range(ins):
            channel = padded[o if ins == 1 else i]
            for r in range(rows):
                for c in range(columns):
                    window = channel[
                        r : r + stride * height : stride, c : c + stride * width : stride
                    ]
                    out[o] += weight[o, i, r, c] * window
    return out


def grn(x: Array, state: State, name: str) -> Array:
    """Of positions ``(p, c)``."""
    strength = np.array([math.sqrt(sum(v * v for v in column)) for column in x.T])
    relative = strength / (strength.mean() + 1e-6)
    gamma, beta = state[f"{name}.gamma"].ravel(), state[f"{name}.beta"].ravel()
    return gamma * x * relative + beta + x


def hidden_layers(x: Array, state: State) -> Array:
    """Norm, two linear layers and GRN of positions ``(p, c)``."""
    x = norm(x, state, "norm", 1e-6)
    return dense(grn(gelu(dense(x, state, "pwconv1")), state, "grn"), state, "pwconv2")


def conv_block(x: Array, state: State, mask: Array | None) -> Array:
    """Of ``(c, h, w)``."""
    branch, keep = conv(x, state, "dwconv", pad=3), 1.0 if mask is None else 1 - mask
    branch = branch * keep
    branch = hidden_layers(branch.reshape(len(x), -1).T, state)
    return x * keep + branch.T.reshape(x.shape)


def hex_block(x: Array, state: State, edges: NDArray[np.int64], mask: Array | None) -> Array:
    """Of ``(n, c)``."""
    branch = np.zeros_like(x) + state["spatial_conv.bias"][0]
    for source, destination, kind in edges.T:
        branch[destination] += state["spatial_conv.weight"][0, kind] * x[source]
    keep = 1.0 if mask is None else 1 - mask[:, None]
    return x * keep + hidden_layers(branch * keep, state)


def nearest(mask: Array, shape: tuple[int, ...]) -> Array:
    out = np.empty(shape)
    for r in range(shape[0]):
        for c in range(shape[1]):
            out[r, c] = mask[r * mask.shape[0] // shape[0], c * mask.shape[1] // shape[1]]
    return out


def bilinear(x: Array, side: int = 4) -> Array:
    """Four neighbours of each point, whatever lies between the points."""
    out = np.empty((len(x), side, side))
    for r in range(side):
        for c in range(side):
            place = [
                max((k + 0.5) * n / side - 0.5, 0) for k, n in ((r, x.shape[1]), (c, x.shape[2]))
            ]
            (i, j), (a, b) = map(int, place), (p - int(p) for p in place)
            k, m = min(i + 1, x.shape[1] - 1), min(j + 1, x.shape[2] - 1)
            upper = (1 - b) * x[:, i, j] + b * x[:, i, m]
            lower = (1 - b) * x[:, k, j] + b * x[:, k, m]
            out[:, r, c] = (1 - a) * upper + a * lower
    return out


def face_token(image: Array, state: State, mask: Array | None = None) -> Array:
    x = image if mask is None else image * (1 - mask)
    x = norm_channels(conv(x, state, "stem.0", pad=1), state, "stem.1")
    small = None if mask is None else nearest(mask, x.shape[1:])
    for block in range(2):
        x = conv_block(x, part(state, f"stage1.{block}."), small)
    x = conv(norm_channels(x, state, "downsample.0"), state, "downsample.1", stride=2)
    small = None if mask is None else nearest(mask, x.shape[1:])
    for block in range(3):
        x = conv_block(x, part(state, f"stage2.{block}."), small)
    return bilinear(x).ravel()


def hex_token(
    nodes: Array, state: State, edges: NDArray[np.int64], mask: Array | None = None
) -> Array:
    x = nodes if mask is None else nodes * (1 - mask[:, None])
    x = gelu(norm(dense(x, state, "stem.0"), state, "stem.1"))
    for layer in range(4):
        x = hex_block(x, part(state, f"layers.{layer}."), edges, mask)
    return dense(norm(x.mean(0), state, "proj.0"), state, "proj.1")


def fuse(tokens: Array, state: State) -> Array:
    """Post-norm layers over ``(t, d)`` with 8 heads."""
    x, layer = tokens, 0
    while f"layers.{layer}.norm1.weight" in state:
        own = part(state, f"layers.{layer}.")
        rows = x @ own["self_attn.in_proj_weight"].T + own["self_attn.in_proj_bias"]
        size = x.shape[1] // 8
        mixed = np.empty_like(x)
        for head in range(8):
            query, key, value = (
                rows[:, k * x.shape[1] + head * size :][:, :size] for k in range(3)
            )
            weights = np.exp(query @ key.T / math.sqrt(size))
            weights /= weights.sum(1, keepdims=True)
            mixed[:, head * size : (head + 1) * size] = weights @ value
        x = norm(x + dense(mixed, own, "self_attn.out_proj"), own, "norm1")
        x = norm(x + dense(gelu(dense(x, own, "linear1")), own, "linear2"), own, "norm2")
        layer += 1
    return x


def read_out(tokens: Array, state: State) -> Array:
    x = gelu(norm(dense(tokens.ravel(), state, "0"), state, "1"))
    return dense(gelu(dense(x, state, "4")), state, "6")


def legacy_edges() -> NDArray[np.int64]:
    """Rows alternate by half a pitch, as the older code has it."""
    places = [(r, c) for r, count in enumerate(ROWS) for c in range(count)]
    found = []
    for node, (r, c) in enumerate(places):
        shift = 0 if r % 2 else -1
        near = [(r, c), (r, c - 1), (r, c + 1)]
        near += [(r - 1, c + shift), (r - 1, c + shift + 1)]
        near += [(r + 1, c + shift), (r + 1, c + shift + 1)]
        found += [(node, places.index(p), k) for k, p in enumerate(near) if p in places]
    return np.array(found).T


def true_edges() -> NDArray[np.int64]:
    places = [(r, 2 * c - count + 1) for r, count in enumerate(ROWS) for c in range(count)]
    steps = [(0, 0), (0, -2), (0, 2), (-1, -1), (-1, 1), (1, -1), (1, 1)]
    found = []
    for node, (r, s) in enumerate(places):
        for kind, (down, along) in enumerate(steps):
            if (r + down, s + along) in places:
                found.append((places.index((r + down, s + along)), node, kind))
    return np.array(found).T


def coarse_id(row: int, column: int, layout: str) -> int:
    """Sensor of a cell of the map with 9 rows and 24 columns."""
    return 4092 + (24 * row + column if layout == "legacy" else 9 * column + row)


def fine_cell(row: int, column: int, layout: str) -> tuple[int, int]:
    """Sensor of a cell of the fine grid, and how many cells that one has."""
    if 15 <= row < 30 and 30 <= column < 42:
        return CENTRE[(column - 30) // 2][(row - 15) // 3], 6
    return coarse_id(row // 5, column // 3, layout), 15


def plain_faces(x: Array, split: bool, layout: str) -> dict[str, Array]:
    """Images ``(k, h, w)`` of values ``(4760, k)``, without the fine grid."""
    faces = {"inner": x[:4092].reshape(93, 44, -1)}
    if split:
        ids = [[coarse_id(r, c, layout) for c in range(24)] for r in range(9)]
        faces |= {"outer_coarse": x[ids], "outer_center": x[np.array(CENTRE).T]}
    faces |= {"us": x[4308:4452].reshape(24, 6, -1), "ds": x[4452:4596].reshape(24, 6, -1)}
    return {name: np.moveaxis(face, -1, 0) for name, face in faces.items()}


def fine_image(x: Array, layout: str, pool: tuple[int, int] | None, norms: "Norms") -> Array:
    """Counts and times on the fine grid, ``(2, h, w)``."""
    sensors = [[fine_cell(r, c, layout) for c in range(72)] for r in range(45)]
    rows, columns = pool or (1, 1)
    out = np.empty((2, 45 // rows, 72 // columns))
    for r in range(out.shape[1]):
        for c in range(out.shape[2]):
            near = [
                sensors[r * rows + i][c * columns + j] for i in range(rows) for j in range(columns)
            ]
            times = [x[s, 1] for s, _ in near if x[s, 1] != norms.sentinel]
            out[1, r, c] = np.mean(times) if times else norms.sentinel
            if layout == "legacy":
                out[0, r, c] = np.mean([x[s, 0] / n for s, n in near])
            else:
                counts = [norms.photons(x[s, 0]) / n for s, n in near if x[s, 0] != norms.sentinel]
                out[0, r, c] = norms.count(sum(counts)) if counts else norms.sentinel
    return out


def fine_mask(mask: Array, layout: str, pool: tuple[int, int] | None) -> Array:
    rows, columns = pool or (1, 1)
    out = np.zeros((45 // rows, 72 // columns))
    for r in range(out.shape[0] * rows):
        for c in range(out.shape[1] * columns):
            legacy = layout == "legacy"
            sensor = coarse_id(r // 5, c // 3, layout) if legacy else fine_cell(r, c, layout)[0]
            out[r // rows, c // columns] = max(out[r // rows, c // columns], mask[sensor])
    return out


class Norms:
    """``ln(1 + n/s1)/s2`` and ``t/scale - shift`` with one sentinel."""

    def __init__(
        self, s1: float = 0.58, s2: float = 1.0, scale: float = 6.5e-8, shift: float = 0.5,
        sentinel: float = -1.0, threshold: float = 100.0,
    ) -> None:  # fmt: skip
        self.s1, self.s2, self.scale, self.shift = s1, s2, scale, shift
        self.sentinel, self.threshold = sentinel, threshold

    def count(self, n: float) -> float:
        return math.log1p(n / self.s1) / self.s2

    def photons(self, value: float) -> float:
        return self.s1 * math.expm1(self.s2 * value)

    def pair(self, n: float, t: float) -> tuple[float, float]:
        if not math.isfinite(n) or n > 9e9:
            return self.sentinel, self.sentinel
        count = self.count(n) if n >= -0.999 * self.s1 else 0.0
        timed = n >= self.threshold and math.isfinite(t) and abs(t) <= 9e9
        return count, t / self.scale - self.shift if timed else self.sentinel

    def sensors(self, npho: Array, time: Array) -> Array:
        return np.array([self.pair(n, t) for n, t in zip(npho, time, strict=True)])


def encode(
    x: Array,
    state: State,
    *,
    layout: str = "legacy",
    split: bool = False,
    pool: tuple[int, int] | None = None,
    mask: Array | None = None,
    norms: Norms | None = None,
) -> Array:
    """Tokens ``(t, d)`` of normalised values ``(4760, 2)``, from the tensors of the encoder."""
    own = part(state, "backbone.")
    images = plain_faces(x, split, layout)
    hidden = {} if mask is None else plain_faces(mask[:, None], split, layout)
    if not split:
        images["outer"] = fine_image(x, layout, pool, norms or Norms())
        if mask is not None:
            hidden["outer"] = fine_mask(mask, layout, pool)[None]
    masks = {name: hidden[name][0] if mask is not None else None for name in images}
    tokens = [face_token(images[name], own, masks[name]) for name in images]
    edges = legacy_edges() if layout == "legacy" else true_edges()
    for start in (4596, 4669):
        nodes = slice(start, start + 73)
        own_mask = None if mask is None else mask[nodes]
        tokens.append(hex_token(x[nodes], part(state, "hex_encoder."), edges, own_mask))
    return fuse(np.stack(tokens) + state["pos_embed"][0], part(state, "fusion_transformer."))
