"""Checkpoints of the older training code, and what of them fits a network of ours.

Such a file holds ``model_state_dict``, averaged weights in ``ema_state_dict`` or ``best_ema_state``
and a ``config``; bare dictionaries of tensors are read as well.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.table import Table
from torch import Tensor, nn

from sciml.core.checkpoint import DAMAGE
from sciml.core.report import metric_table
from sciml.xec.net.base import choose_normalisation
from sciml.xec.net.hexnext import TYPES
from sciml.xec.physics.constants import HEX_ROWS, SENSORS
from sciml.xec.physics.normalisation import Normalisation

Kind = Literal["regressor", "angle", "mae", "inpainter", "encoder"]
Weights = dict[str, Tensor]
AVERAGED = ("ema_state_dict", "best_ema_state")  # the first that is there is taken
WRAPPER = re.compile(r"^(?:(?:module|_orig_mod)\.)+|(?<=\.)_orig_mod\.")
LANDMARK = "backbone.stem.0.weight"  # every encoder has it; what precedes it is its prefix
ENCODER = re.compile(
    r"(?:backbone|hex_encoder|fusion_transformer)\.|pos_embed$|(?:top|bottom)_hex_indices$|"
    r"hex_edge_index$"
)
PREFIX = re.compile(r"^backbone\.")  # of an encoder's tensors in LegacyFile
HEAD = (0, 1, 4, 6)  # places of the layers with weights in a head
NORMALISATION = {  # their names: ours
    "npho_scheme": "scheme",
    "npho_scale": "npho_scale",
    "npho_scale2": "npho_scale2",
    "npho_threshold": "npho_threshold",
    "time_scale": "time_scale",
    "time_shift": "time_shift",
    "sentinel_npho": "sentinel_npho",
    "sentinel_time": "sentinel_time",
}
INDICES = {
    "top_hex_indices": SENSORS,
    "bottom_hex_indices": SENSORS,
    "hex_edge_index": sum(HEX_ROWS),
}


@dataclass(frozen=True)
class LegacyFile:
    """What an older checkpoint holds.

    Args:
        path: The file.
        kind: Which model it is of; ``angle`` is a regressor with a single head for the angles.
        weights: Tensors by name, averaged ones where there are; those of an encoder, a regressor
            and a single head have the names of `XECv1`, all others their own.
        config: The settings it was trained with.
    """

    path: Path
    kind: Kind
    weights: Weights
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Match:
    """How the tensors of a file fit a network, by name.

    Args:
        loaded: Copied into the network.
        missing: In the network only.
        unexpected: In the file only.
        mismatched: In both, with other shapes.
    """

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()

    def table(self, title: str) -> Table:
        """A terminal table with the number and the first names of each.

        Args:
            title: Heading.
        """
        lists = vars(self).items()
        rows = {what: [str(len(names)), shorten(names)] for what, names in lists}
        return metric_table(title, ["number", "names"], rows, head="tensors")


def shorten(names: Iterable[str], most: int = 4) -> str:
    """The first of some names as a text.

    Args:
        names: What is listed.
        most: How many are named.
    """
    names = list(names)
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def read_legacy(path: Path) -> LegacyFile:
    """Open an older checkpoint without running its code.

    Args:
        path: File that torch wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds objects other than tensors and plain values, is a checkpoint of
            ours, or has no encoder in it.
    """
    content = _open(path)
    if "hyper_parameters" in content:
        raise ValueError(
            f"{path} is a checkpoint of sciml already; use it as it is, with --ckpt_path or "
            "--model.init_from"
        )
    theirs = _weights(content)
    prefix = next((n.removesuffix(LANDMARK) for n in theirs if n.endswith(LANDMARK)), None)
    if prefix not in {"", "backbone.", "encoder."}:
        raise ValueError(
            f"{path} holds no encoder of this detector: none of its {len(theirs)} tensors is "
            f"called backbone.{LANDMARK}, encoder.{LANDMARK} or {LANDMARK}"
        )
    own = {n: n.removeprefix(prefix) for n in theirs if n.startswith(prefix)}
    encoder = {n: f"backbone.{bare}" for n, bare in own.items() if ENCODER.match(bare)}
    rest = {name: value for name, value in theirs.items() if name not in encoder}
    kind, names = _kind(rest)
    weights = {encoder.get(n, names.get(n, n)): value for n, value in theirs.items()}
    config = content.get("config")
    return LegacyFile(path, kind, weights, config if isinstance(config, Mapping) else {})


def stored_normalisation(
    file: LegacyFile, preset: str = "legacy"
) -> tuple[Normalisation, tuple[str, ...]]:
    """The normalisation that an older checkpoint was trained with.

    Args:
        file: The checkpoint.
        preset: Name of the preset for the values that it does not hold.

    Returns:
        The normalisation, and which of its values are those of the preset, by their older names.
    """
    there = {name: value for name, value in file.config.items() if value is not None}
    if "sentinel_value" in there:  # older runs have one for both
        both = there["sentinel_value"]
        there = {"sentinel_npho": both, "sentinel_time": both} | there
    values = {
        ours: str(there[name]) if ours == "scheme" else float(there[name])
        for name, ours in NORMALISATION.items()
        if name in there
    }
    absent = tuple(name for name in NORMALISATION if name not in there)
    base = dataclasses.asdict(choose_normalisation(preset))
    return choose_normalisation(base | values), absent


def fill(net: nn.Module, file: LegacyFile, encoder: str = "backbone.") -> Match:
    """Copy into a network all that fits by name and shape, apart from axes of length 1.

    Args:
        net: Network to fill in place.
        file: Checkpoint whose encoder is that of the network.
        encoder: What precedes the names of the network's encoder.

    Returns:
        What was copied and what was not.

    Raises:
        ValueError: If not even half of the encoder fits, or an index does not exist.
    """
    own = net.state_dict()
    theirs = {PREFIX.sub(encoder, name): value for name, value in file.weights.items()}
    common = [name for name in own if name in theirs]
    fits = {n: theirs[n].reshape(own[n].shape) for n in common if _alike(own[n], theirs[n])}
    sizes = {n: p.numel() for n, p in net.named_parameters() if n.startswith(encoder)}
    total, loaded = sum(sizes.values()), sum(sizes.get(name, 0) for name in fits)
    if loaded <= total / 2:
        raise ValueError(
            f"only {loaded:,} of the {total:,} numbers of the encoder are in {file.path}; it is "
            "of another network: match --model.net to it"
        )
    _check_indices(fits, encoder, file.path)
    net.load_state_dict(fits, strict=False)
    return Match(
        tuple(fits),
        tuple(name for name in own if name not in theirs),
        tuple(name for name in theirs if name not in own),
        tuple(name for name in common if name not in fits),
    )


def _open(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; give a checkpoint of the older training code")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        names = _globals(path, str(error))
        if not names:
            raise ValueError(f"{path} is no file that torch can read; copy it again") from error
        raise ValueError(
            f"{path} is not opened, because it would run code: it refers to {', '.join(names)}; "
            "where it was written, replace these by numbers, texts and dictionaries and save again"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{path} holds no dictionary of tensors; save state_dict() with torch.save"
        )
    return content


def _globals(path: Path, message: str) -> list[str]:
    """What a file would import; found without importing it."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except DAMAGE:  # an old format, of which torch names the first one
        return re.findall(r"GLOBAL ([\w.]+)", message)


def _weights(content: Mapping[str, Any]) -> Weights:
    """Averaged weights where there are; indices never, since averaging can have changed them."""
    kept = [content[key] for key in ("model_state_dict", "state_dict") if key in content]
    raw = _tensors(kept[0] if kept else content)
    averages = [content[key] for key in AVERAGED if content.get(key)]
    averaged = _tensors(averages[0]) if averages else {}
    numbers = {n: v for n, v in averaged.items() if v.is_floating_point() or n not in raw}
    return raw | numbers


def _tensors(stored: Any) -> Weights:
    items = stored.items() if isinstance(stored, Mapping) else ()
    named = ((WRAPPER.sub("", str(name)), value) for name, value in items)
    return {n: v for n, v in named if isinstance(v, Tensor) and n != "n_averaged"}


def _kind(rest: Weights) -> tuple[Kind, dict[str, str]]:
    """What a file is by the tensors besides its encoder, and our names of some of them."""
    if any(name.startswith("heads.") for name in rest):
        return "regressor", {}
    if any(name.startswith("dec_") for name in rest):
        return "mae", {}
    if any(name.startswith(("head_", "cross_attn_head")) for name in rest):
        return "inpainter", {}
    layers = [value for value in rest.values() if value.is_floating_point()]
    if len(layers) == 2 * len(HEAD) and layers[-1].shape in {(2,), (4,)}:
        ours = [f"heads.angle.{place}.{part}" for place in HEAD for part in ("weight", "bias")]
        names = [name for name, value in rest.items() if value.is_floating_point()]
        return "angle", dict(zip(names, ours, strict=True))
    return "encoder", {}


def _alike(own: Tensor, other: Tensor) -> bool:
    return [n for n in own.shape if n > 1] == [n for n in other.shape if n > 1]


def _check_indices(fits: Weights, encoder: str, path: Path) -> None:
    for name, limit in INDICES.items():
        values = fits.get(f"{encoder}{name}")
        if values is None:
            continue
        types = values[2:] if values.ndim > 1 else values[:0]
        if not bool(((values >= 0) & (values < limit)).all() & (types < TYPES).all()):
            raise ValueError(f"{path} is damaged: {name} points to what does not exist")
