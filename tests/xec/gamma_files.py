"""Simple events as files, small networks and quiet runs on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gammas import gammas
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from root_files import Arrays, write_file
from toy import make_trainer

from sciml.core.optim import Optim
from sciml.xec.data import RootStream
from sciml.xec.net import XECNet, XECv2
from sciml.xec.task import XECTask

TINY: dict[str, Any] = {
    "width": 32,
    "layers": 1,
    "channels": (8, 8, 8),
    "blocks": (1, 1),
    "hidden": 16,
}
BRANCHES = {
    "npho": "npho",
    "relative_time": "relative_time",
    "time_min": "time_min_used",
    "energy": "energyTruth",
    "timing": "timeTruth",
    "uvw": "uvwTruth",
    "xyz": "xyzTruth",
    "vertex": "xyzVTX",
    "direction": "emiVec",
    "n_gamma": "nGamma",
    "run": "run",
    "event": "event",
}


def branches(count: int, seed: int = 0) -> Arrays:
    """The events of `gammas` under the names of files, with numbers that are not their rows."""
    batch = gammas(count, seed)
    found = {branch: batch[name].numpy() for name, branch in BRANCHES.items()}
    whole = {name: found[name].astype("i4") for name in ("nGamma", "run", "event")}
    return found | whole | {"event": (100 + 3 * np.arange(count)).astype("i4")}


def gamma_file(path: Path, count: int, seed: int = 0) -> Path:
    """A file of them.

    Args:
        path: To make.
        count: Events.
        seed: Of the events.
    """
    return write_file(path, branches(count, seed))


def stream(folder: Path, train: int = 12, val: int = 9, **settings: Any) -> RootStream:
    """Files in a folder, validated events being tested too.

    Args:
        folder: Where they are made unless they are there.
        train: Events to train on.
        val: Events to validate on.
        settings: Of the data module.
    """
    paths = {"train": folder / "train.root", "val": folder / "val.root"}
    for seed, (name, count) in enumerate({"train": train, "val": val}.items()):
        if not paths[name].exists():
            gamma_file(paths[name], count, seed)
    given = {name: str(path) for name, path in paths.items()} | {"test": str(paths["val"])}
    return RootStream(**{**given, "batch_size": 4, "chunksize": 4, **settings})


def tiny_net(**settings: Any) -> XECNet:
    """A small `XECv2`.

    Args:
        settings: Of the network.
    """
    return XECv2(**(TINY | settings))


def tiny_task(net: Callable[[], XECNet] = tiny_net, **settings: Any) -> XECTask:
    """A task whose first weights are always the same.

    Args:
        net: Makes its network.
        settings: Of the task.
    """
    torch.manual_seed(0)
    return XECTask(net(), Optim(lr=1e-3), **settings)


def quiet_trainer(folder: Path, *callbacks: Callback, **settings: Any) -> Trainer:
    """A trainer of one epoch.

    Args:
        folder: Of what it writes.
        callbacks: Besides those of the application.
        settings: Of the trainer.
    """
    return make_trainer(folder, *callbacks, **({"max_epochs": 1} | settings))
