"""Which losses go with which outputs of a network."""

from collections.abc import Mapping
from dataclasses import replace

from sciml.xec.loss import Kind, TaskLoss
from sciml.xec.net.base import OUTPUTS, XECNet
from sciml.xec.task.quantities import CONE

DIRECTIONS = ("angle", "angleVec")


def choose_losses(net: XECNet, given: Mapping[str, TaskLoss]) -> dict[str, TaskLoss]:
    """The loss of every task of a network.

    Args:
        net: What is trained.
        given: Those that were chosen.

    Raises:
        ValueError: If one is of no task, or does not fit what the network gives.
    """
    for task in given:
        if task not in net.tasks:
            raise ValueError(
                f"model.losses has '{task}', which the network does not give; its tasks are "
                f"{', '.join(net.tasks)}"
            )
    losses = {task: given.get(task, TaskLoss()) for task in net.tasks}
    losses = {
        task: replace(loss, kind=_usual(net, task)) if loss.kind == "usual" else loss
        for task, loss in losses.items()
    }
    for task, loss in losses.items():
        _check_kind(task, loss)
        if loss.has_spread:
            _check_spread(net, task, loss)
    return losses


def _usual(net: XECNet, task: str) -> Kind:
    if task == "n_gamma":
        return "cross_entropy"
    if task == "angleVec":
        return "von_mises_fisher" if task in net.nll_tasks else "cosine"
    return "gaussian_nll" if task in net.nll_tasks else "smooth_l1"


def _check_kind(task: str, loss: TaskLoss) -> None:
    fits = {
        "cross_entropy": task == "n_gamma",
        "cosine": task in DIRECTIONS,
        "von_mises_fisher": task == "angleVec",
    }
    if not fits.get(loss.kind, task != "n_gamma"):
        raise ValueError(f"the loss {loss.kind} is none of {task}; choose another in model.losses")
    if loss.log_transform and task != "energy":
        raise ValueError(
            f"the logarithm of {task} cannot be trained on, its values may be negative; "
            f"leave log_transform out of model.losses.{task}"
        )


def _check_spread(net: XECNet, task: str, loss: TaskLoss) -> None:
    if task not in net.nll_tasks:
        raise ValueError(
            f"the loss {loss.kind} of {task} needs uncertainties; add {task} to "
            "model.net.nll_tasks or choose another loss"
        )
    name = type(net).__name__
    if loss.kind == "von_mises_fisher" and net.width(task) != CONE:
        raise ValueError(
            f"{name} gives no concentration of {task}, which von_mises_fisher needs, but variances "
            f"of the components; choose gaussian_nll in model.losses.{task}, or take {task} out of "
            "model.net.nll_tasks"
        )
    if loss.kind == "gaussian_nll" and net.width(task) != 2 * OUTPUTS[task]:
        raise ValueError(
            f"{name} gives a concentration of {task} and no variances, which gaussian_nll needs; "
            f"choose von_mises_fisher in model.losses.{task}"
        )
