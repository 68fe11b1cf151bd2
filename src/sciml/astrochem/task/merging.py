"""Windows whose steps go over several intervals of the data (b windows, t steps)."""

from torch import Tensor


def merge_intervals(batch: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """Windows whose steps go over several intervals of the data at once.

    The conditions of a merged step are the mean logarithms over its intervals, weighted by their
    lengths.

    Args:
        batch: Windows of `SequenceData`.
        count: Intervals a step; windows too short for one stay as they are.
    """
    steps = batch["phys"].shape[1] // count
    if count == 1 or not steps:
        return batch
    used = steps * count
    length = batch["dt"][:, :used].unflatten(1, (steps, count))
    logarithm = batch["phys"][:, :used].log().unflatten(1, (steps, count))
    weight = (length / length.sum(2, keepdim=True))[..., None]
    return batch | {
        "phys": (weight * logarithm).sum(2).exp(),
        "dt": length.sum(2),
        "target": batch["target"][:, count - 1 : used : count],
        "valid": batch["valid"][:, count - 1 : used : count],
    }
