"""What the whole runs of all domains share."""

import csv
import json
from pathlib import Path

STATE = ("state_dict", "raw_state", "ema", "optimizer_states", "lr_schedulers", "callbacks")
"""Parts of a checkpoint that are equal to the last bit after an interruption."""


def quiet(folder: Path) -> list[str]:
    """Metrics as CSV in a folder, no bars."""
    return [
        "--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={folder}",
        "--trainer.logger.name=run", "--trainer.logger.version=one",
        "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
        "--trainer.log_every_n_steps=1",
    ]  # fmt: skip


def last_metrics(folder: Path) -> dict[str, float]:
    """The last value of every metric of a run in `quiet`'s folder."""
    values: dict[str, float] = {}
    with (folder / "run" / "one" / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            values |= {key: float(value) for key, value in row.items() if value}
    return values


def every_step(folder: Path) -> list[str]:
    """A configuration that keeps the checkpoint of every step in ``folder/checkpoints``."""
    checkpoints = {
        "dirpath": str(folder / "checkpoints"), "filename": "{step}", "save_last": True,
        "every_n_train_steps": 1, "save_top_k": -1,
    }  # fmt: skip
    callback = {"class_path": "ModelCheckpoint", "init_args": checkpoints}
    overlay = folder.parent / "overlay.yaml"
    overlay.write_text(json.dumps({"trainer": {"callbacks": [callback]}}))
    return ["-c", str(overlay)]
