"""How well numbers of gammas are recognised (n events)."""

import torch
from torch import Tensor

CLASSES = 5  # 0 to 4 gammas; more count as 4


def class_metrics(true: Tensor, predicted: Tensor) -> dict[str, Tensor]:
    """Shares of events with the right class; none without truths.

    - ``accuracy`` of all events
    - ``recall_0`` to ``recall_4`` of the events of each class that is there
    - ``balanced_accuracy``, the mean of these

    Args:
        true: Classes as numbers, NaN where they are not known, ``(n,)``.
        predicted: The same of the network.
    """
    known = ~(true.isnan() | predicted.isnan())
    if not known.any():
        return {}
    true = true[known].clamp(0, CLASSES - 1)
    right = (true == predicted[known]).double()
    recalls = {
        f"recall_{one}": right[true == one].mean() for one in range(CLASSES) if (true == one).any()
    }
    balanced = torch.stack([*recalls.values()]).mean()
    return {"accuracy": right.mean(), **recalls, "balanced_accuracy": balanced}
