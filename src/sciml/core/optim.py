"""How weights are updated: optimizer, schedule, parameter groups."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau


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
        warmup: Linear warm-up: a fraction of all steps if below 1, else a number of steps.
        min_lr: Lowest learning rate, as a fraction of ``lr``.
        gamma: Factor an epoch of ``exponential``.
        factor: Factor of ``plateau``.
        patience: Epochs without improvement before ``plateau`` acts.
        monitor: Logged metric that ``plateau`` watches; lower is better.
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
        Groups with ``params``, ``weight_decay`` and ``lr``.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim > 1 and not no_decay(name)
        scale = 1.0 if optim.layer_decay == 1.0 else optim.layer_decay ** depth(name)
        groups.setdefault((decays, scale), []).append(parameter)
    return [
        {"params": params, "weight_decay": optim.weight_decay * decays, "lr": optim.lr * scale}
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


class MuonAdamW(Optimizer):
    """Muon for matrices and AdamW for every other tensor, seen as one optimizer.

    Source: K. Jordan et al., Muon: an optimizer for hidden layers in neural networks (2024).

    Args:
        groups: Parameter groups with ``params``, ``lr`` and ``weight_decay``.
        lr: Default learning rate.
        betas: AdamW's decay rates; the first is Muon's momentum.
        eps: AdamW's epsilon.
    """

    def __init__(
        self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ValueError("optim.name muon needs torch 2.9 or newer; use adamw")
        self._parts: list[Optimizer] = []
        super().__init__([dict(group) for group in groups], {"lr": lr})
        matrices = self._split(groups, matrix=True)
        others = self._split(groups, matrix=False)
        if matrices:
            self._parts.append(
                torch.optim.Muon(matrices, lr=lr, momentum=betas[0], adjust_lr_fn="match_rms_adamw")
            )
        if others:
            self._parts.append(AdamW(others, lr=lr, betas=betas, eps=eps))
        self._link()

    @staticmethod
    def _split(groups: list[dict[str, Any]], *, matrix: bool) -> list[dict[str, Any]]:
        chosen = [
            {**group, "params": [p for p in group["params"] if (p.ndim == 2) == matrix]}
            for group in groups
        ]
        return [group for group in chosen if group["params"]]

    def _link(self) -> None:
        # the groups and states are the parts' own: a schedule that writes lr reaches them
        self.param_groups = [group for part in self._parts for group in part.param_groups]
        self.state.clear()
        for part in self._parts:
            self.state.update(part.state)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update all weights once.

        Args:
            closure: Evaluates the loss and its gradients.

        Returns:
            What the closure returned.
        """
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for part in self._parts:
            part.step()
        self.state.clear()
        for part in self._parts:
            self.state.update(part.state)
        return result

    def state_dict(self) -> dict[str, Any]:
        """States of both parts."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both parts.

        Args:
            state_dict: What `state_dict` returned.
        """
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._link()


def build_schedule(optimizer: Optimizer, optim: Optim, steps: int) -> LRScheduler | None:
    """The learning-rate schedule of the settings, stepped once an optimizer step.

    Args:
        optimizer: Optimizer whose groups hold their peak learning rates.
        optim: Settings; ``plateau`` is stepped once an epoch instead.
        steps: Optimizer steps of the whole run.

    Returns:
        The schedule, or None for a constant rate without warm-up.
    """
    if optim.schedule == "plateau":
        return ReduceLROnPlateau(
            optimizer,
            factor=optim.factor,
            patience=optim.patience,
            min_lr=optim.lr * optim.min_lr,
        )
    if optim.schedule == "onecycle":
        peaks = [float(group["lr"]) for group in optimizer.param_groups]
        return OneCycleLR(
            optimizer,
            max_lr=peaks,
            total_steps=max(steps, 1) + 1,
            pct_start=optim.pct_start,
            cycle_momentum=False,
            final_div_factor=1.0 / (25.0 * max(optim.min_lr, 1e-4)),
        )
    if optim.schedule == "constant" and optim.warmup == 0:
        return None
    return LambdaLR(optimizer, lambda step: learning_rate_factor(step, optim, steps))


def learning_rate_factor(step: int, optim: Optim, steps: int) -> float:
    """Learning rate at a step as a fraction of its peak.

    Args:
        step: Optimizer steps made so far.
        optim: Settings; ``exponential`` decays by ``gamma`` a hundredth of the run, so that it
            does not depend on the size of an epoch.
        steps: Optimizer steps of the whole run.

    Returns:
        Factor in ``[0, 1]``: ``min(warm-up, shape)``.
    """
    warmup = optim.warmup * steps if optim.warmup < 1 else optim.warmup
    rise = min(1.0, (step + 1) / (warmup + 1))
    after, length = max(0.0, step - warmup), max(1.0, steps - warmup)
    if optim.schedule == "cosine":
        shape = _cosine(min(1.0, after / length), optim.min_lr)
    elif optim.schedule == "cosine_restarts":
        first = optim.period * steps if optim.period <= 1 else optim.period
        cycle = math.floor(math.log2(after / first + 1))
        start = first * (2**cycle - 1)
        shape = _cosine((after - start) / (first * 2**cycle), optim.min_lr)
    elif optim.schedule == "exponential":
        shape = max(optim.min_lr, optim.gamma ** (100 * after / length))
    else:
        shape = 1.0
    return rise * shape


def _cosine(progress: float, lowest: float) -> float:
    return lowest + (1 - lowest) * (1 + math.cos(math.pi * progress)) / 2


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor | None:
    """Euclidean norm over all gradients, or None when there are none."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients) if gradients else None
