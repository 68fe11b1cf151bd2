"""Scientific machine learning in one PyTorch Lightning application."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sciml.core.task import Task

__version__ = version("sciml")
__all__ = ["__version__", "load"]


def load(path: str | Path) -> "Task":
    """The trained task in a checkpoint; see `sciml.core.checkpoint.load`."""
    from sciml.core import checkpoint

    return checkpoint.load(path)
