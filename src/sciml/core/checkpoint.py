"""Checkpoints: written atomically, opened without running code, loaded as the class they name."""

import os
import pickle
import zipfile
from argparse import ArgumentError
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import torch
from jsonargparse import ArgumentParser
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from sciml.core.parser import explain
from sciml.core.trust import trusted_class

if TYPE_CHECKING:
    from sciml.core.task import Task

PACKAGE = "sciml."
Migration = Callable[[dict[str, Tensor]], dict[str, Tensor]]
DAMAGE = (  # what a changed byte makes torch raise
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its place and rename it, so that a full disk costs no older one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write and rename.

        Args:
            checkpoint: What Lightning collected.
            path: Final place.
            storage_options: Not used.

        Raises:
            OSError: If the file cannot be written; what stood at ``path`` is untouched.
        """
        target = Path(path)
        part = target.with_name(f".{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except (OSError, RuntimeError) as error:  # torch reports a short write as RuntimeError
            kept = " the earlier file there is intact;" if target.exists() else ""
            raise OSError(
                f"checkpoint {target} could not be written ({error});{kept} "
                "free space or set --trainer.default_root_dir, then resume with --ckpt_path"
            ) from error
        finally:
            part.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Everything in a checkpoint, on the CPU; see `read`.

        Args:
            path: A file written by a sciml run.
            map_location: Not used.
            weights_only: Not used: no pickled code runs.
        """
        return read(path)


def read(path: str | Path, *, mapped: bool = False) -> dict[str, Any]:
    """Everything in a checkpoint, opened without executing pickled code.

    Args:
        path: A file written by a sciml run.
        mapped: Map tensors from the file, for a quick look; the file must not change then.

    Returns:
        Lightning's checkpoint dictionary.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint of sciml.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; give --ckpt_path an existing .ckpt file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except DAMAGE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise ValueError(
            f"{path} is not a readable checkpoint (truncated, or it holds objects other than "
            f"tensors and plain values): {reason}"
        ) from error
    needed = ("hyper_parameters", "state_dict")
    if not (isinstance(content, dict) and all(isinstance(content.get(k), dict) for k in needed)):
        raise ValueError(f"{path} holds no hyper-parameters: it was not written by a sciml run")
    return content


def model_config(checkpoint: Mapping[str, Any], path: str | Path = "checkpoint") -> dict[str, Any]:
    """The ``class_path`` and ``init_args`` of the task in a checkpoint.

    Args:
        checkpoint: What `read` returned.
        path: Named in errors.

    Raises:
        ValueError: If the task, or a class nested in its settings, is not one of sciml.
    """
    from sciml.core.task import Task

    config = _config(checkpoint["hyper_parameters"])
    trusted_class(config, PACKAGE, path, (Task, "task"))
    return config


def data_config(
    checkpoint: Mapping[str, Any], path: str | Path = "checkpoint"
) -> dict[str, Any] | None:
    """The ``class_path`` and ``init_args`` of the data module, None if no one of sciml was stored.

    Args:
        checkpoint: What `read` returned.
        path: Named in errors.

    Raises:
        ValueError: If a class nested in its settings is not one of sciml.
    """
    config = _config(checkpoint.get("datamodule_hyper_parameters") or {})
    if not str(config["class_path"]).startswith(PACKAGE):
        return None
    trusted_class(config, PACKAGE, path)
    return config


def _config(stored: Mapping[str, Any]) -> dict[str, Any]:
    arguments = {k: v for k, v in stored.items() if k not in {"_class_path", "_instantiator"}}
    return {"class_path": stored.get("_class_path"), "init_args": arguments}


def save_task(task: "Task", path: Path) -> None:
    """Write a checkpoint of a task that was not trained here.

    Args:
        task: What to write.
        path: The file to make.

    Raises:
        OSError: If the file cannot be written.
    """
    content = {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": task.state_dict(),
        "hparams_name": "kwargs",
        "hyper_parameters": dict(task.hparams),
    }
    AtomicCheckpointIO().save_checkpoint(content, path)


def load(path: str | Path) -> "Task":
    """The task of a checkpoint, with its averaged weights, in evaluation mode on the CPU.

    This is the only way checkpoints are opened: no pickled code runs, the class written in the
    file is built, and it has to belong to sciml.

    Args:
        path: A file written by a sciml run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, names a foreign class or does not fit its class.
    """
    from sciml.core.task import Task

    checkpoint = read(path, mapped=True)
    config = model_config(checkpoint, path)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Task, "model")
    try:
        parsed = parser.parse_object({"model": config})
    except ArgumentError as error:
        raise ValueError(f"the settings in {path} are wrong: {explain(str(error), [])}") from error
    task: Task = parser.instantiate(parsed)["model"]
    task.on_load_checkpoint(checkpoint)
    check_fit(task, checkpoint["state_dict"], path)
    task.load_state_dict(checkpoint["state_dict"])
    return task.eval()


def check_fit(task: nn.Module, weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Raise one sentence when weights do not fit a task.

    Args:
        task: The module to be filled.
        weights: Tensors by name.
        path: Named in the error.

    Raises:
        ValueError: If names or shapes differ.
    """
    own = task.state_dict()
    wrong = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    missing = [name for name in own if name not in weights]
    extra = [name for name in weights if name not in own]
    if not (wrong or missing or extra):
        return
    parts = [
        f"{len(names)} {what} (first: {names[0]})"
        for what, names in (("missing", missing), ("unknown", extra), ("of another shape", wrong))
        if names
    ]
    raise ValueError(
        f"the weights in {path} do not fit {type(task).__name__} as configured: "
        f"{', '.join(parts)}; use the settings of the checkpoint, or start from its weights with "
        "--model.init_from"
    )


def load_weights(task: nn.Module, path: str | Path, keep: tuple[str, ...] = ()) -> None:
    """Start from another run's weights: every tensor that agrees by name and shape is copied.

    A table of loaded, missing, unexpected and mismatched entries is printed.

    Args:
        task: Module to fill in place.
        path: Checkpoint of a sciml run.
        keep: Names of tensors that stay as they are, such as statistics of the new data.

    Raises:
        ValueError: If fewer than half of the trainable numbers would be loaded.
    """
    weights = read(path, mapped=True)["state_dict"]
    own = {name: value for name, value in task.state_dict().items() if name not in keep}
    fits = {n for n, v in own.items() if n in weights and weights[n].shape == v.shape}
    rows = {
        "loaded": sorted(fits),
        "missing": sorted(n for n in own if n not in weights),
        "unexpected": sorted(n for n in weights if n not in own and n not in keep),
        "mismatched": sorted(n for n in own if n in weights and n not in fits),
    }
    parameters = {name: p for name, p in task.named_parameters() if name not in keep}
    total = sum(p.numel() for p in parameters.values())
    loaded = sum(p.numel() for name, p in parameters.items() if name in fits)
    table = Table(title=f"weights from {path}: {loaded:,} of {total:,} parameters")
    for title in ("entries", "number", "first names"):
        table.add_column(title)
    for title, names in rows.items():
        table.add_row(title, str(len(names)), ", ".join(names[:3]))
    Console(stderr=True).print(table)
    if loaded < total / 2:
        raise ValueError(
            f"only {loaded:,} of {total:,} parameters of {type(task).__name__} are in {path}; "
            "it belongs to another network: match --model.net to it or leave --model.init_from out"
        )
    task.load_state_dict({name: weights[name] for name in fits}, strict=False)


def migrate(checkpoint: dict[str, Any], change: Migration) -> None:
    """Apply one edit to every copy of the weights in a checkpoint.

    Args:
        checkpoint: Edited in place: ``state_dict`` and, of an averaged run, the raw and averaged
            weights.
        change: Maps a dictionary of tensors to the edited one; the averaged copies hold
            trainable parameters only.
    """
    checkpoint["state_dict"] = change(checkpoint["state_dict"])
    if "raw_state" in checkpoint:
        checkpoint["raw_state"] = change(checkpoint["raw_state"])
    if "ema" in checkpoint:
        checkpoint["ema"]["average"] = change(checkpoint["ema"]["average"])
