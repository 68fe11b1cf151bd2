"""How weights are updated: settings, parameter groups, optimizer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from sciml.core.muon import MuonAdamW
from sciml.core.settings import plain

FIXED = ("name", "layer_decay", "frozen")  # what decides which state belongs to which parameter


@dataclass
class Optim:
    """How weights are updated.

    Args:
        name: Optimizer. ``amsgrad`` is Adam with the running maximum; ``muon`` orthogonalises the
            updates of matrices and uses AdamW for all other tensors.
        lr: Learning rate after warm-up.
        weight_decay: Decoupled decay of tensors with more than one dimension (L2 for sgd and
            amsgrad), except those a network names in ``no_decay()``.
        betas: Decay of the running mean and mean square; the first is the momentum of sgd, muon.
        eps: Added to the root of the mean square.
        schedule: Shape of the learning rate over the run.
        warmup: Linear warm-up: a fraction of all steps if below 1, else a number of steps; not with
            ``plateau``.
        min_lr: Lowest learning rate, as a fraction of ``lr``.
        gamma: Factor an epoch of ``exponential``.
        factor: Factor of ``plateau``.
        patience: Validations, as a rule one an epoch, without improvement before ``plateau`` acts.
        monitor: Validation metric that ``plateau`` watches; lower is better.
        pct_start: Rising fraction of ``onecycle``.
        period: Length of the first cycle of ``cosine_restarts``: a fraction of all steps if at
            most 1, else a number of steps; every next cycle is twice as long.
        layer_decay: Factor on the learning rate for every layer further from the output.
        frozen: Glob patterns of parameter names that are not trained, such as ``net.trunk.*``.
    """

    name: Literal["adam", "adamw", "amsgrad", "sgd", "muon"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    schedule: Literal[
        "constant", "cosine", "cosine_restarts", "onecycle", "exponential", "plateau"
    ] = "constant"
    warmup: float = 0.0
    min_lr: float = 0.0
    gamma: float = 0.9993
    factor: float = 0.8
    patience: int = 5
    monitor: str = "val/loss"
    pct_start: float = 0.3
    period: float = 0.1
    layer_decay: float = 1.0
    frozen: list[str] = field(default_factory=list)


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a dotted name fits one of the glob patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def freeze(module: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Stop training the parameters that fit a pattern.

    Args:
        module: Module whose parameter names are matched.
        patterns: Globs; each has to fit at least one parameter.

    Returns:
        Submodules all of whose parameters are frozen; they belong in evaluation mode.

    Raises:
        ValueError: If a pattern fits nothing.
    """
    names = [name for name, _ in module.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"optim.frozen pattern '{pattern}' fits no parameter; names look like "
                f"{', '.join(names[:3])}"
            )
    for name, parameter in module.named_parameters():
        if matches(name, patterns):
            parameter.requires_grad_(False)
    return [
        child
        for child in module.modules()
        if child is not module
        and any(True for _ in child.parameters())
        and not any(p.requires_grad for p in child.parameters())
    ]


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    optim: Optim,
    no_decay: Callable[[str], bool],
    depth: Callable[[str], int],
) -> list[dict[str, Any]]:
    """Trainable parameters grouped by weight decay and learning-rate factor.

    Args:
        named: Names and parameters; each trainable one lands in exactly one group.
        optim: Settings.
        no_decay: Whether a parameter is excluded from weight decay.
        depth: Layers between a parameter and the output; asked only with layer decay.

    Returns:
        Groups with ``params``, ``weight_decay``, ``lr`` and its peak ``initial_lr``.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim > 1 and not no_decay(name)
        scale = 1.0 if optim.layer_decay == 1.0 else optim.layer_decay ** depth(name)
        groups.setdefault((decays, scale), []).append(parameter)
    return [
        {
            "params": params,
            "weight_decay": optim.weight_decay * decays,
            "lr": optim.lr * scale,
            "initial_lr": optim.lr * scale,
        }
        for (decays, scale), params in groups.items()
    ]


def build_optimizer(groups: list[dict[str, Any]], optim: Optim) -> Optimizer:
    """The optimizer of the settings over the given groups."""
    shared: dict[str, Any] = {"lr": optim.lr, "betas": tuple(optim.betas), "eps": optim.eps}
    if optim.name == "adam":
        return Adam(groups, decoupled_weight_decay=True, **shared)
    if optim.name == "amsgrad":
        return Adam(groups, amsgrad=True, **shared)
    if optim.name == "sgd":
        return SGD(groups, lr=optim.lr, momentum=optim.betas[0])
    if optim.name == "muon":
        return MuonAdamW(groups, **shared)
    return AdamW(groups, **shared)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor | None:
    """Euclidean norm over all gradients, or None when there are none."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients) if gradients else None


def set_peaks(
    groups: Sequence[dict[str, Any]],
    schedules: Sequence[dict[str, Any]],
    optim: Optim,
    peaks: Sequence[float],
) -> None:
    """Move learning rates to other peaks, keeping their place in the schedule.

    Args:
        groups: Parameter groups of an optimizer or of its state; edited in place.
        schedules: States of its schedules; edited in place.
        optim: Settings.
        peaks: New peak of every group.
    """
    for group, peak in zip(groups, peaks, strict=True):
        group["lr"] *= peak / group["initial_lr"]
        group["initial_lr"] = peak
    for state in schedules:
        state["_last_lr"] = [group["lr"] for group in groups]
        if "base_lrs" in state:
            state["base_lrs"] = list(peaks)
        if "min_lrs" in state:  # of a plateau
            state["min_lrs"] = [optim.lr * optim.min_lr] * len(groups)


def update_stored(checkpoint: dict[str, Any], optim: Optim, built: Optimizer) -> None:
    """Make the settings of a resumed run win over those its checkpoint was written with.

    Lightning restores the learning rate, decay, … from the checkpoint and would silently ignore
    other settings. Without a difference nothing is touched: the resume is exact to the last bit.

    Args:
        checkpoint: Its optimizer and schedule states are edited in place.
        optim: Settings of this run.
        built: Fresh optimizer of this run, whose groups hold the new values.

    Raises:
        ValueError: If the states cannot belong to an optimizer with the new settings.
    """
    stored = checkpoint["hyper_parameters"].get("optim")
    if not isinstance(stored, Mapping):
        return
    old, new = plain(Optim()) | dict(stored), plain(optim)
    if old == new:
        return
    changed = [name for name in FIXED if old[name] != new[name]]
    if old["schedule"] != new["schedule"] and "plateau" in {old["schedule"], new["schedule"]}:
        changed.append("schedule")
    if changed:
        name = changed[0]
        raise ValueError(
            f"optim.{name} is {new[name]} but was {old[name]} in the run that is resumed; keep it, "
            "or start a new run from its weights with --model.init_from"
        )
    state = checkpoint["optimizer_states"][0]
    parts = state.get("parts", [state])  # muon has two
    groups = [group for part in parts for group in part["param_groups"]]
    for group, fresh in zip(groups, built.param_groups, strict=True):
        group |= {k: fresh[k] for k in ("weight_decay", "betas", "eps", "momentum") if k in group}
    schedules = checkpoint["lr_schedulers"]
    for schedule in schedules:
        schedule |= {k: new[k] for k in ("factor", "patience") if k in schedule}
    if (old["lr"], old["min_lr"]) != (new["lr"], new["min_lr"]):
        set_peaks(groups, schedules, optim, [group["lr"] for group in built.param_groups])
