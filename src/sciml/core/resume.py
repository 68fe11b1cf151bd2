"""Where a run stands, as far as Lightning's checkpoints leave it out.

Lightning resumes a checkpoint that was written at the last batch before a validation, or during
one, without that validation; it forgets the metrics that callbacks still ask for, counts a batch as
delivered that an exception interrupted, and an epoch as finished that ``max_steps`` cut short; with
``max_steps`` it ends an epoch twice.
"""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.trainer.states import TrainerStatus


def note_place(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Complete a checkpoint so that nothing is skipped or done twice when it is resumed.

    Args:
        trainer: The trainer that writes it.
        checkpoint: What Lightning collected; edited in place.
    """
    checkpoint["metrics"] = {
        name: torch.as_tensor(value).detach().cpu().clone()
        for name, value in trainer.callback_metrics.items()
    }
    loop = trainer.fit_loop.epoch_loop
    place = checkpoint["loops"]["fit_loop"]
    batches = place["epoch_loop.batch_progress"]
    done = batches["current"]["processed"]
    for state in place["state_dict"].get("combined_loader", []):
        if "batches" in state:
            state["batches"] = min(state["batches"], done)
    at_batch_end = batches["current"]["completed"] < done
    interrupted = trainer.state.status == TrainerStatus.INTERRUPTED
    stepped = done == batches["current"]["ready"] and not loop._should_accumulate()
    accumulated = 0 if stepped else done % trainer.accumulate_grad_batches
    if interrupted and trainer.training and accumulated:
        _rewind(place, accumulated)
    elif (at_batch_end and _validation_is_due(trainer)) or (trainer.validating and interrupted):
        _complete(batches)
        _begin_validation(place["epoch_loop.val_loop.batch_progress"])
    elif at_batch_end and loop._num_ready_batches_reached():
        _complete(batches)  # so that the end of the epoch is not skipped
        place["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
    epochs = place["epoch_progress"]
    ended = epochs["current"]["processed"] == epochs["current"]["started"]
    if ended and 0 < done < trainer.num_training_batches and not batches["is_last_batch"]:
        for progress in (epochs["total"], epochs["current"]):
            progress["processed"] = progress["completed"] = progress["started"] - 1


def check_resumable(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Raise one sentence when a run cannot go on from a checkpoint.

    Args:
        trainer: The trainer that resumes.
        checkpoint: What was read.

    Raises:
        ValueError: If the checkpoint has weights only, or a callback would start the run afresh.
    """
    path = Path(trainer.ckpt_path or "")
    searching = any(
        isinstance(callback, BatchSizeFinder | LearningRateFinder)
        for callback in trainer.callbacks  # type: ignore[attr-defined]
    )
    if searching and not path.name.startswith("."):  # their own files are hidden
        raise ValueError(
            "a run cannot be resumed while BatchSizeFinder or LearningRateFinder is among the "
            "callbacks: they would start it afresh; what they found is in the checkpoint"
        )
    if "optimizer_states" not in checkpoint:
        raise ValueError(
            f"{path} holds weights only, so the run cannot go on from it; "
            "start a new one from its weights with --model.init_from"
        )


def take_place(trainer: Trainer, metrics: dict[str, torch.Tensor]) -> None:
    """Hand back, when training starts, what Lightning does not restore by itself.

    Args:
        trainer: The trainer that resumes.
        metrics: Those of the checkpoint; empty in a fresh run.
    """
    trainer.callback_metrics.update(metrics)
    loop = trainer.fit_loop
    if loop.restarted_on_epoch_end:
        loop.epoch_progress.increment_completed()
        _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined]
        loop.reset_restart_stage()
        loop.epoch_loop.reset_restart_stage()
    # A schedule that asks for the number of steps makes Lightning build the loader before it
    # restores the checkpoint, and then it forgets to hand the loader its place.
    loop._load_combined_loader_states()


def _validation_is_due(trainer: Trainer) -> bool:
    fetcher = trainer.fit_loop._data_fetcher
    return fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


def _complete(batches: dict[str, Any]) -> None:
    for progress in (batches["total"], batches["current"]):
        progress["completed"] = progress["processed"]


def _rewind(place: dict[str, Any], accumulated: int) -> None:
    """Go back to the last optimizer step: the gradients accumulated since then are lost."""
    batches = place["epoch_loop.batch_progress"]
    for progress in (batches["total"], batches["current"]):
        progress |= dict.fromkeys(progress, progress["processed"] - accumulated)
    batches["is_last_batch"] = False
    for state in place["state_dict"].get("combined_loader", []):
        if "batches" in state:
            state["batches"] = min(state["batches"], batches["current"]["processed"])


def _begin_validation(batches: dict[str, Any]) -> None:
    """Make Lightning find a validation whose first batch was interrupted."""
    done = batches["total"]["completed"]
    batches["total"] |= {"ready": done + 1, "started": done + 1, "processed": done}
    batches["current"] = dict.fromkeys(batches["current"], 0)
