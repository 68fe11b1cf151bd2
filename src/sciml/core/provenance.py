"""What a run was made of, written once beside its checkpoints."""

import hashlib
import json
import platform
import resource
import subprocess
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

import sciml
from sciml.core.files import write_json

LIBRARIES = ("torch", "lightning", "jsonargparse", "torchmetrics", "numpy", "h5py", "lmdb", "ase")
END = 1 << 20  # bytes of each end of a data file that enter its checksum


class Provenance(Callback):
    """Write ``provenance.json`` at the start of a fit and complete it at the end."""

    def __init__(self) -> None:
        self._start = 0.0
        self._file: Path | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.perf_counter()
        folder = trainer.log_dir  # a collective: every rank has to ask
        self._file = None
        if trainer.is_global_zero and trainer.loggers and folder and not _dry(trainer):
            self._file = Path(folder) / "provenance.json"
            data = trainer.datamodule  # type: ignore[attr-defined]
            files = data.files() if hasattr(data, "files") else []
            write_json(self._file, describe(trainer, files))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._file is not None:
            end = {
                "wall_seconds": round(time.perf_counter() - self._start, 1),
                "peak_memory_mib": peak_memory_mib(),
                "steps": trainer.global_step,
            }
            write_json(self._file, json.loads(self._file.read_text()) | end)


def describe(trainer: Trainer, files: Iterable[Path]) -> dict[str, Any]:
    """Versions, code state, data and device of a run.

    Args:
        trainer: The trainer that runs it.
        files: Data files in use.
    """
    return {
        "sciml": sciml.__version__,
        "git": git_state(),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "device": str(trainer.strategy.root_device),
        "device_name": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "processes": trainer.world_size,
        "precision": str(trainer.precision),
        "data": [checksum(path) for path in files],
    }


def checksum(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of the first and last MiB of a file.

    Args:
        path: The file.
    """
    digest = hashlib.sha256()
    size = path.stat().st_size
    with path.open("rb") as file:
        digest.update(file.read(END))
        file.seek(max(size - END, 0))
        digest.update(file.read(END))
    return {"file": str(path), "bytes": size, "sha256_of_ends": digest.hexdigest()}


def git_state() -> dict[str, Any] | None:
    """Commit and whether there are uncommitted changes; None outside a repository."""
    here = Path(__file__).parent

    def ask(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def peak_memory_mib() -> int:
    """Largest resident memory of this process so far, or of its GPU when there is one."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated() >> 20)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)


def _dry(trainer: Trainer) -> bool:
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
