"""What is told of a training while it runs: clipped gradients, and what loading costs."""

import math
from collections import deque
from statistics import median

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from sciml.core.optim import gradient_norm

OFTEN = 0.9  # share of clipped steps that is told
FEWEST = 100  # steps to judge by
KEPT = 1000  # norms, the last ones


class TrainingWatch:
    """Logs for a task the norms of its gradients and the counters of its loader.

    It warns once when nearly all steps are clipped, since the limit then sets the step and no
    longer guards against rare ones.
    """

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=KEPT)
        self._limit = math.inf
        self._warned = self._told_of_loading = False

    def see_gradient(self, task: LightningModule, limit: float | None) -> None:
        """Log ``train/gradient_norm`` of a step, and ``train/clipped``, the share of such steps.

        Args:
            task: With gradients that are not clipped yet; a skipped step has none.
            limit: Norm that they will be clipped to, None or 0 for none.
        """
        norm = gradient_norm(task.parameters())
        if norm is None:
            return
        task.log("train/gradient_norm", norm, batch_size=1)
        if limit:
            is_clipped = (norm > limit).float()
            many = task.trainer.world_size > 1
            task.log(
                "train/clipped",
                is_clipped,
                on_step=False,
                on_epoch=True,
                sync_dist=many,
                batch_size=1,
            )
            self._norms.append(float(norm))
            self._limit = limit

    def end_epoch(self, task: LightningModule, is_told: bool) -> None:
        """Log events a second and seconds of reading and waiting of the epoch that ends.

        Args:
            task: In its last step.
            is_told: Whether the profile is printed also if this is not the first epoch.
        """
        self._warn()
        data = task.trainer.datamodule  # type: ignore[attr-defined]
        if not hasattr(data, "profile"):
            return
        profile = data.profile("train")
        profile.stop()
        many = task.trainer.world_size > 1
        numbers = {
            "events_per_second": (profile.rate, "sum"),
            "read_seconds": (profile.read, "mean"),
            "wait_seconds": (profile.wait, "mean"),
        }
        for name, (value, reduced) in numbers.items():
            task.log(
                f"train/{name}",
                value,
                on_step=False,
                on_epoch=True,
                reduce_fx=reduced,
                sync_dist=many,
                batch_size=1,
            )
        if is_told or not self._told_of_loading:
            self._told_of_loading = True
            rank_zero_info(str(profile))

    def _warn(self) -> None:
        if self._warned or len(self._norms) < FEWEST:
            return
        share = sum(norm > self._limit for norm in self._norms) / len(self._norms)
        if share > OFTEN:
            self._warned = True
            rank_zero_warn(
                f"{share:.0%} of the last {len(self._norms)} steps were clipped: the gradients "
                f"have a median norm of {median(self._norms):.3g} and "
                f"--trainer.gradient_clip_val is {self._limit:g}; raise it unless that is meant"
            )
