"""Formulas that serve numpy arrays and torch tensors alike."""

from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = TypeVar("Array", NDArray[Any], Tensor)
"""A numpy array or a torch tensor; a function that takes one kind returns the same."""


def library(values: NDArray[Any] | Tensor) -> ModuleType:
    """The library whose functions take the values: numpy or torch, by the same names.

    Args:
        values: Any array or tensor.
    """
    return torch if isinstance(values, Tensor) else np


def constant(values: NDArray[Any], like: Array) -> Array:
    """A table as an array of the kind, type and device of another one.

    Args:
        values: Numbers.
        like: What to resemble.
    """
    if isinstance(like, Tensor):
        return torch.tensor(values, dtype=like.dtype, device=like.device)
    return np.asarray(values, dtype=like.dtype)


def retyped(values: Array, dtype: Any) -> Array:
    """The same values as another type, with their derivatives.

    Args:
        values: Any array or tensor.
        dtype: Of the library of the values.
    """
    if isinstance(values, Tensor):
        return values.to(dtype)
    return values.astype(dtype, copy=False)
