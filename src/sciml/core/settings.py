"""Constructor arguments as plain values, so that checkpoints open without running code."""

import copy
import inspect
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from lightning.fabric.utilities.data import AttributeDict
from lightning.pytorch.core.mixins.hparams_mixin import HyperparametersMixin
from torch import nn


def class_path(thing: object) -> str:
    """The import path of an object's class, public where its package exports it."""
    own = type(thing)
    package = own.__module__.rpartition(".")[0]
    while package.count(".") >= 1:
        module = __import__(package, fromlist=[own.__name__])
        if getattr(module, own.__name__, None) is own:
            return f"{package}.{own.__name__}"
        package = package.rpartition(".")[0]
    return f"{own.__module__}.{own.__qualname__}"


def caller() -> FrameType | None:
    """The frame of the constructor that called the function this is called in."""
    current = inspect.currentframe()
    outer = current.f_back if current is not None else None
    return outer.f_back if outer is not None else None


def keep_plain(module: HyperparametersMixin) -> None:
    """Replace stored constructor arguments by plain values and note the class they belong to.

    Args:
        module: Task or data module whose hyper-parameters were just saved.
    """
    arguments = _own_arguments(module)
    if "_class_path" not in arguments:  # built by hand rather than by the command line
        arguments["_class_path"] = class_path(module)
        arguments["_instantiator"] = "lightning.pytorch.cli.instantiate_module"
    module._hparams = AttributeDict(arguments)
    module._hparams_initial = copy.deepcopy(module._hparams)  # type: ignore[attr-defined]


def plain(value: Any) -> Any:
    """A constructor argument as numbers, text, lists and dictionaries.

    A network becomes its ``class_path`` and ``init_args``, a dataclass its fields.

    Args:
        value: Argument of a task, data module or network.

    Raises:
        ValueError: If nothing plain stands for the value.
    """
    if value is None:
        return None
    if isinstance(value, Enum):
        return value.name  # as the command line writes it
    if isinstance(value, bool | int | float | str):
        return _base(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, nn.Module) and isinstance(value, HyperparametersMixin):
        return {"class_path": class_path(value), "init_args": _own_arguments(value)}
    raise ValueError(
        f"an argument of type {type(value).__name__} cannot be stored in a checkpoint; "
        "use numbers, text, lists, dictionaries, dataclasses or a sciml network"
    )


def _own_arguments(module: HyperparametersMixin) -> dict[str, Any]:
    own = inspect.signature(type(module)).parameters  # not what a parent's constructor was given
    return {
        key: _without_foreign(plain(value))
        for key, value in dict(module.hparams).items()
        if key in own or key.startswith("_")
    }


def _without_foreign(value: Any) -> Any:
    """A nested class without settings it does not have: links give them to every network."""
    if not (isinstance(value, dict) and value.keys() == {"class_path", "init_args"}):
        return value
    package, _, name = str(value["class_path"]).rpartition(".")
    kind = getattr(sys.modules.get(package), name, None)
    if kind is None or not value["init_args"]:
        return value
    own = inspect.signature(kind).parameters
    kept = {k: v for k, v in value["init_args"].items() if k in own}
    return value | {"init_args": kept}


def _base(value: bool | int | float | str) -> bool | int | float | str:
    # subclasses (such as numpy's float64) would need their class to be unpickled
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value
