"""Linear maps of features and their nonlinearity.

Weights are drawn from N(0, 1) and divided by √fan_in where they are used. Shapes: n atoms, m
components, c channels, s elements.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor, nn

from sciml.hip.net.coupling import degree_of_component

SILU_SCALE = 1.67653  # 1/√E[silu(t)²] for t of N(0, 1)

Groups = Sequence[tuple[int, slice]]
"""Index of an element and its atoms, which stand together, for every element present."""


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
        """Map features of atoms in groups of the same element.

        Args:
            features: Atoms ordered by element, shape ``(n, m, fan_in)``.
            groups: Atoms of every element present.

        Returns:
            Shape ``(n, m, fan_out)``.
        """
        weight = self.weight / sqrt(self.weight.shape[2])
        parts = [
            _by_component(features[atoms], weight[element].index_select(0, self._degree))
            for element, atoms in groups
        ]
        return torch.cat([part.transpose(0, 1) for part in parts], dim=1).transpose(0, 1)


def _by_component(features: Tensor, weight: Tensor) -> Tensor:
    """One matrix for every component, in one batched product without copies."""
    return torch.bmm(features.transpose(0, 1), weight).transpose(0, 1)
