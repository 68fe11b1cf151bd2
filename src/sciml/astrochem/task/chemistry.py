"""Whether data and weights are of the same chemistry."""

from collections.abc import Mapping, Sequence
from typing import Any


def check_species(own: Sequence[str], checkpoint: Mapping[str, Any]) -> None:
    """Raise one sentence when a checkpoint is of another chemistry.

    Args:
        own: Species of the task, which are those of the data.
        checkpoint: What was read.

    Raises:
        ValueError: If species differ, or come in another order.
    """
    stored = list(checkpoint["hyper_parameters"].get("species") or [])
    if stored == list(own):
        return
    missing = [name for name in stored if name not in own]
    extra = [name for name in own if name not in stored]
    parts = [f"{len(stored)} species in the checkpoint, {len(own)} in the data"]
    parts += [f"not in the data: {', '.join(missing[:5])}"] if missing else []
    parts += [f"not in the checkpoint: {', '.join(extra[:5])}"] if extra else []
    raise ValueError(
        f"the checkpoint was trained on another chemistry ({'; '.join(parts)}); "
        "give --data.path or --data.test a file with the same species"
    )
