"""What the tasks of a network are trained on and judged by (b events)."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sciml.xec.metrics.calibration import cone
from sciml.xec.metrics.resolution import AXES, SHARE, VECTOR
from sciml.xec.net.base import XECNet
from sciml.xec.physics.anchors import Anchors
from sciml.xec.physics.constants import LIGHT
from sciml.xec.physics.coordinates import emission_angles, emission_direction, to_xyz

Batch = Mapping[str, Tensor]
TimingReference = Literal["interaction", "vertex"]
TRUTHS = {
    "angle": ("direction",),
    "angleVec": ("direction",),
    "energy": ("energy",),
    "timing": ("timing",),
    "uvwFI": ("uvw",),
    "n_gamma": ("n_gamma",),
}
"""Truths that a task needs; the time of the interaction also needs both ends of the flight."""
FLIGHT = ("xyz", "vertex")
ANGLES = ("theta", "phi")
NUMBERS = {"uvwFI": AXES, "energy": ("energy",), "timing": ("timing",)}
"""Columns of the tasks that are trained in a space of the network."""
CONE = 4  # columns of a direction with a concentration


def needed(tasks: tuple[str, ...], reference: TimingReference) -> list[str]:
    """Names of the truths that tasks are trained and judged on.

    Args:
        tasks: Of a network.
        reference: What the time is that of.
    """
    names = {name for task in tasks for name in TRUTHS[task]}
    if "timing" in tasks and reference == "interaction":
        names |= set(FLIGHT)
    return sorted(names)


def uncertain(net: XECNet) -> list[str]:
    """Quantities that a network gives uncertainties of, ``sig_…``.

    Args:
        net: Which.
    """
    names: list[str] = []
    for task in net.nll_tasks:
        if task == "angleVec":
            names += ("direction",) if net.width(task) == CONE else VECTOR
        else:
            names += ANGLES if task == "angle" else NUMBERS[task]
    return names


def truth(task: str, batch: Batch, reference: TimingReference) -> Tensor:
    """True values of a task in physical units, ``(b, k)``; of n_gamma the classes ``(b,)``.

    Args:
        task: Which.
        batch: With the truths.
        reference: What the time is that of.
    """
    if task == "uvwFI":
        return batch["uvw"]
    if task == "energy":
        return batch["energy"][:, None]
    if task == "angleVec":
        return normalize(batch["direction"], dim=1)
    if task == "angle":
        return emission_angles(batch["direction"])
    if task == "n_gamma":
        return batch["n_gamma"].clamp(0, 4)
    return true_time(batch, reference)[:, None]


def true_time(batch: Batch, reference: TimingReference) -> Tensor:
    """True time of the first interaction or of the emission in ns, ``(b,)``.

    Args:
        batch: With the truths.
        reference: Which.
    """
    if reference == "vertex":
        return batch["timing"]
    path: Tensor = torch.linalg.vector_norm(batch["xyz"] - batch["vertex"], dim=1)
    return batch["timing"] + path / LIGHT


def true_columns(batch: Batch, reference: TimingReference) -> dict[str, Tensor]:
    """Columns ``true_…`` of the truths that the batch has.

    Args:
        batch: Of the loader.
        reference: What the time is that of.
    """
    columns: dict[str, Tensor] = {}
    if "uvw" in batch:
        columns |= _named("true_", AXES, batch["uvw"])
    if "energy" in batch:
        columns["true_energy"] = batch["energy"]
    if "timing" in batch and (reference == "vertex" or all(n in batch for n in FLIGHT)):
        columns["true_timing"] = true_time(batch, reference)
    if "direction" in batch:
        columns |= _named("true_", VECTOR, normalize(batch["direction"], dim=1))
    if "n_gamma" in batch:
        columns["true_n_gamma"] = batch["n_gamma"]
    return columns


def predicted_columns(
    net: XECNet, output: Mapping[str, Tensor], logarithmic: frozenset[str] = frozenset()
) -> dict[str, Tensor]:
    """Columns ``pred_…`` in physical units, and ``sig_…`` where the network gives uncertainties.

    Args:
        net: Knows the spaces it is trained in.
        output: Of the network.
        logarithmic: Tasks whose loss is that of the logarithm.
    """
    columns: dict[str, Tensor] = {}
    for task, raw in output.items():
        raw = raw.float() if raw.dtype in {torch.bfloat16, torch.float16} else raw
        if task == "n_gamma":
            columns["pred_n_gamma"] = raw.argmax(1)
        elif task in {"angle", "angleVec"}:
            vector = emission_direction(raw[:, :2]) if task == "angle" else raw[:, :3]
            columns |= _named("pred_", VECTOR, normalize(vector, dim=1))
            if task == "angleVec" and raw.shape[1] == CONE:
                columns["kappa"] = raw[:, 3].clamp(-4, 12).exp()
                columns["sig_direction"] = cone(columns["kappa"], SHARE)
            elif task in net.nll_tasks:
                names = ANGLES if task == "angle" else VECTOR
                columns |= _named("sig_", names, (0.5 * raw[:, len(names) :]).exp())
        else:
            columns |= _numbers(net, task, raw, task in logarithmic)
    return columns


def emission_time(timing: Tensor, uvw: Tensor) -> Tensor:
    """Time at which a gamma left the origin, the nominal vertex of the beam, in ns, ``(b,)``.

    Args:
        timing: Of its first interaction in ns, ``(b,)``.
        uvw: Where that was, in cm, ``(b, 3)``.
    """
    flight: Tensor = torch.linalg.vector_norm(to_xyz(uvw), dim=1) / LIGHT
    return timing - flight


def derived_columns(
    columns: Mapping[str, Tensor], batch: Batch, reference: TimingReference
) -> dict[str, Tensor]:
    """Columns that follow from others and are judged besides them.

    ``…_emission`` for ``…_timing``: right for gammas from the target alone. Where the network
    gives no place the flight ends at the conventional one. ``…_theta`` and ``…_phi`` where these
    have uncertainties.

    Args:
        columns: ``true_…``, ``pred_…``, ``sig_…`` and ``rule_…``.
        batch: With the truth, if it has one.
        reference: What the time is that of.
    """
    found = {"true_emission": batch["timing"]} if "timing" in batch else {}
    for kind in ("pred_", "rule_"):
        if f"{kind}timing" not in columns:
            continue
        time, own = columns[f"{kind}timing"], kind if f"{kind}u" in columns else "rule_"
        if reference == "interaction":
            time = emission_time(time, torch.stack([columns[own + axis] for axis in AXES], 1))
        found[f"{kind}emission"] = time
    for kind in ("true_", "pred_") if "sig_theta" in columns else ():
        if f"{kind}ex" in columns:
            vector = torch.stack([columns[kind + axis] for axis in VECTOR], 1)
            found |= _named(kind, ANGLES, emission_angles(vector))
    return found


def rule_columns(
    anchors: Anchors, batch: Batch, depth: Tensor, reference: TimingReference
) -> dict[str, Tensor]:
    """Columns ``rule_…`` of the conventional estimates; the depth is the median of training.

    The direction is that from the origin; the time of emission takes the flight from there.

    Args:
        anchors: Of the events.
        batch: Raw values.
        depth: w in cm, scalar.
        reference: What the time is that of.
    """
    uvw = torch.cat([anchors.uv, depth.to(anchors.uv).expand(len(anchors.uv), 1)], 1)
    place = to_xyz(uvw)
    time = 1e9 * batch["time_min"].to(anchors.time) + anchors.time
    if reference == "vertex":
        time = emission_time(time, uvw)
    return {
        **_named("rule_", AXES, uvw),
        "rule_energy": anchors.energy,
        "rule_timing": time,
        **_named("rule_", VECTOR, normalize(place, dim=1)),
    }


def _numbers(net: XECNet, task: str, raw: Tensor, logarithmic: bool) -> dict[str, Tensor]:
    names = NUMBERS[task]
    mean = raw[:, : len(names)]
    spread = raw[:, len(names) :] if task in net.nll_tasks else None
    if logarithmic:
        value, sigma = mean.exp(), None if spread is None else mean.exp() * (0.5 * spread).exp()
    else:
        value, sigma = net.space(task).leave(mean, spread)
    columns = _named("pred_", names, value)
    return columns if sigma is None else columns | _named("sig_", names, sigma)


def _named(prefix: str, names: tuple[str, ...], values: Tensor) -> dict[str, Tensor]:
    return dict(zip((prefix + n for n in names), values.unbind(1), strict=True))
