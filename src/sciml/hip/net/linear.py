"""Linear maps of features and their nonlinearity.

Weights are drawn from N(0, 1) and divided by √fan_in where they are used. Shapes: n atoms, m
components, c channels, s elements.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor, nn

from sciml.hip.net.coupling import degree_of_component

SILU_SCALE = 1.67653  # 1/√E[silu(t)²] for t of N(0, 1)


class Groups(ABC):
    """Which atoms are of which element, for maps with weights of their own for every element."""

    @abstractmethod
    def split(self, values: Tensor, dim: int) -> list[tuple[int, Tensor]]:
        """Index of an element and the values it needs, for one element after the other.

        Args:
            values: Atoms along one axis.
            dim: The axis.
        """

    @abstractmethod
    def join(self, parts: Sequence[Tensor], dim: int) -> Tensor:
        """Results for all atoms, in their order, from those of the elements.

        Args:
            parts: What was made of the parts of `split`, in their order.
            dim: The axis of the atoms.
        """


@dataclass(frozen=True)
class Runs(Groups):
    """Atoms of one element stand together.

    Args:
        runs: Index of an element and its atoms, for every element present.
    """

    runs: Sequence[tuple[int, slice]]

    def split(self, values: Tensor, dim: int) -> list[tuple[int, Tensor]]:
        return [
            (element, values.narrow(dim, atoms.start, atoms.stop - atoms.start))
            for element, atoms in self.runs
        ]

    def join(self, parts: Sequence[Tensor], dim: int) -> Tensor:
        return torch.cat(list(parts), dim)


@dataclass(frozen=True)
class Masks(Groups):
    """Every element's map meets all atoms: more work, but no shape depends on what they are.

    Args:
        masks: Whether an atom is of an element, shape ``(s, n)``.
    """

    masks: Tensor

    def split(self, values: Tensor, dim: int) -> list[tuple[int, Tensor]]:
        return [(element, values) for element in range(len(self.masks))]

    def join(self, parts: Sequence[Tensor], dim: int) -> Tensor:
        total = torch.zeros_like(parts[0])
        for mask, part in zip(self.masks, parts, strict=True):
            shape = [1] * part.ndim
            shape[dim] = -1
            total = torch.where(mask.view(shape), part, total)
        return total


def select_rows(values: Tensor, rows: Tensor | None) -> Tensor:
    """Rows of an array, by default all in their order.

    Args:
        values: Shape ``(n, ...)``.
        rows: Their indices, shape ``(any,)``.
    """
    return values if rows is None else values.index_select(0, rows)


def scaled_silu(values: Tensor) -> Tensor:
    """SiLU with second moment 1 for normal input, ``1.67653 t/(1 + e^-t)``."""
    return SILU_SCALE * nn.functional.silu(values)


class Linear(nn.Module):
    """Linear map of the last axis.

    Args:
        fan_in: Size of the axis.
        fan_out: New size of the axis.
        bias: Whether to add a vector, zero at first.
    """

    def __init__(self, fan_in: int, fan_out: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in))
        self.bias = nn.Parameter(torch.zeros(fan_out)) if bias else None

    def forward(self, values: Tensor) -> Tensor:
        """Map values of shape ``(..., fan_in)`` to ``(..., fan_out)``."""
        weight = self.weight / sqrt(self.weight.shape[1])
        return nn.functional.linear(values, weight, self.bias)


class MLP(nn.Sequential):
    """Linear maps with a scaled SiLU behind each.

    Args:
        sizes: Width of the input and of every layer.
        bias: Whether the maps have biases; without them zero is mapped to zero.
    """

    def __init__(self, sizes: Sequence[int], bias: bool = False) -> None:
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            layers += [Linear(fan_in, fan_out, bias), ScaledSiLU()]
        super().__init__(*layers)


class ScaledSiLU(nn.Module):
    """SiLU with second moment 1 for normal input."""

    def forward(self, values: Tensor) -> Tensor:
        """Apply it to every number."""
        return scaled_silu(values)


class DegreeLinear(nn.Module):
    """Mix channels, with one matrix for every degree l.

    Args:
        max_ell: Largest degree.
        fan_in: Channels of the input.
        fan_out: Channels of the output.
    """

    def __init__(self, max_ell: int, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(max_ell + 1, fan_in, fan_out))
        self.register_buffer("_degree", degree_of_component(max_ell), persistent=False)
        self._degree: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Map features of shape ``(n, m, fan_in)`` to ``(n, m, fan_out)``."""
        weight = self.weight / sqrt(self.weight.shape[1])
        return _by_component(features, weight.index_select(0, self._degree))


class ElementLinear(nn.Module):
    """Mix channels, with one matrix for every element and degree l.

    Args:
        num_elements: Number of elements s.
        max_ell: Largest degree.
        fan_in: Channels of the input.
        fan_out: Channels of the output.
    """

    def __init__(self, num_elements: int, max_ell: int, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_elements, max_ell + 1, fan_in, fan_out))
        self.register_buffer("_degree", degree_of_component(max_ell), persistent=False)
        self._degree: Tensor

    def forward(self, features: Tensor, groups: Groups) -> Tensor:
        """Map the features of every atom by the matrices of its element.

        Args:
            features: Atoms ordered by element, shape ``(n, m, fan_in)``.
            groups: Atoms of every element.

        Returns:
            Shape ``(n, m, fan_out)``.
        """
        weight = self.weight / sqrt(self.weight.shape[2])
        parts = [
            _by_component(rows, weight[element].index_select(0, self._degree)).transpose(0, 1)
            for element, rows in groups.split(features, 0)
        ]
        return groups.join(parts, 1).transpose(0, 1)


def _by_component(features: Tensor, weight: Tensor) -> Tensor:
    """One matrix for every component, in one batched product without copies."""
    return torch.bmm(features.transpose(0, 1), weight).transpose(0, 1)
