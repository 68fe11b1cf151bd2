"""Muon for matrices with AdamW for all else, as one optimizer."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW, Optimizer


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
