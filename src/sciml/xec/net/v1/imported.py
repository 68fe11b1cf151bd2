"""Networks made of older checkpoints."""

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

import torch

from sciml.xec.net.base import OUTPUTS
from sciml.xec.net.legacy import LegacyFile, Match, fill, shorten, stored_normalisation
from sciml.xec.net.v1.network import XECv1

INPUTS = {"npho_branch": "npho", "time_branch": "relative_time"}


@dataclass(frozen=True)
class Imported:
    """A network made of an older checkpoint.

    Args:
        net: With the weights, in evaluation mode.
        match: How they fitted.
        notes: What the file does not say or asks for, one sentence each.
    """

    net: XECv1
    match: Match
    notes: tuple[str, ...] = ()


def import_network(
    file: LegacyFile,
    *,
    normalisation: str = "legacy",
    outer_fine_pool: tuple[int, int] | None = None,
) -> Imported:
    """The network that an older checkpoint holds; of a pretraining its encoder with new heads.

    Its sizes are read from the shapes of the weights, everything else from the settings in the
    file.

    Args:
        file: The checkpoint.
        normalisation: Preset for the values that the file does not hold.
        outer_fine_pool: Pooling of the outer face if the file does not tell.

    Raises:
        ValueError: If its outputs cannot be reproduced.
    """
    notes: list[str] = []
    arguments = _sizes(file) | _settings(file, normalisation, outer_fine_pool, notes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # new heads are the same at every import
        net = XECv1(**arguments)
    match = fill(net, file)
    trained = file.kind in {"regressor", "angle"}
    needed = ("backbone.", *(f"heads.{name}." for name in net.tasks if trained))
    indices = {name for name, _ in net.named_buffers()}  # those of the network do, too
    absent = [name for name in match.missing if name not in indices]
    lost = [name for name in (*absent, *match.mismatched) if name.startswith(needed)]
    foreign = [name for name in match.unexpected if name.startswith(needed)]
    if lost or foreign:
        raise ValueError(
            f"{file.path} would not give the same outputs here: "
            f"{len(lost)} tensors have no counterpart in the file ({shorten(lost) or 'none'}), "
            f"{len(foreign)} none in the network ({shorten(foreign) or 'none'})"
        )
    if not trained:
        notes.append(f"the file is of kind '{file.kind}': the heads are new and have to be trained")
    return Imported(net.eval(), match, tuple(notes))


def _sizes(file: LegacyFile) -> dict[str, Any]:
    """Arguments of the network that the shapes of the weights tell."""
    shapes = {name: tuple(value.shape) for name, value in file.weights.items()}
    embedding = shapes.get("backbone.pos_embed", ())
    if len(embedding) != 3 or embedding[1] not in {6, 7}:
        raise ValueError(
            f"{file.path} has an embedding of shape {embedding} of its tokens; that of six or "
            "seven tokens, (1, 6, d) or (1, 7, d), was expected"
        )
    layer = re.compile(r"backbone\.fusion_transformer\.layers\.(\d+)\.linear1\.weight")
    hidden = {int(hit[1]): shapes[name][0] for name in shapes if (hit := layer.fullmatch(name))}
    heads = {name: shapes.get(f"heads.{name}.6.bias", (0,))[0] for name in OUTPUTS}
    first = (shapes.get(f"heads.{name}.0.bias", (256,))[0] for name in OUTPUTS if heads[name])
    return {
        "outer_mode": "finegrid" if embedding[1] == 6 else "split",
        "encoder_dim": embedding[2],
        "num_fusion_layers": len(hidden),
        "dim_feedforward": hidden.get(0),
        "hidden_dim": next(first, 256),
        "nll_tasks": [name for name, width in heads.items() if width == 2 * OUTPUTS[name]],
    }


def _settings(
    file: LegacyFile, preset: str, pool: tuple[int, int] | None, notes: list[str]
) -> dict[str, Any]:
    """Arguments of the network that only the settings in the file tell; adds what they lack."""
    config = file.config
    normalisation, absent = stored_normalisation(file, preset)
    if absent:
        notes.append(f"not in the file, taken from '{preset}': {', '.join(absent)}")
    if file.weights["backbone.pos_embed"].shape[1] == 7:  # nothing to pool
        pool = None
    elif "outer_fine_pool" in config:
        pool = config["outer_fine_pool"]
    else:
        notes.append(f"not in the file: outer_fine_pool, taken as {pool and list(pool)}")
    for name, usual in INPUTS.items():
        if config.get(name, usual) != usual:
            notes.append(f"trained on the branch {config[name]} in place of {usual}: read it too")
    there = [name for name in OUTPUTS if f"heads.{name}.6.bias" in file.weights]
    active = [name for name in config.get("active_tasks") or there if name in there]
    tasks = {"tasks": active} if active else {}
    return tasks | {
        "normalisation": dataclasses.asdict(normalisation),
        "outer_fine_pool": (int(pool[0]), int(pool[1])) if pool else None,
        "drop_path_rate": float(config.get("drop_path_rate") or 0.0),
    }
