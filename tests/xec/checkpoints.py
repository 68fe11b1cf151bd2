"""Small networks as a run of training leaves them."""

import torch

from sciml.core.optim import Optim
from sciml.xec.net import XECNet, XECv2
from sciml.xec.task import XECTask

SMALL = {"width": 32, "layers": 1, "channels": (8, 8, 8), "blocks": (1, 1), "hidden": 16}


def small_task(net: XECNet | None = None, seed: int = 0, **settings: object) -> XECTask:
    """A task with weights of no meaning and uncertainties that were calibrated.

    Args:
        net: Its network; by default a small `XECv2` with its usual tasks.
        seed: Of the weights of that one.
        settings: Of the task.
    """
    torch.manual_seed(seed)
    task = XECTask(net or XECv2(**SMALL), Optim(), **settings)  # type: ignore[arg-type]
    for place, name in enumerate(task.calibrated):
        getattr(task.temperature, name).fill_(0.5 + place)
    return task.eval()
