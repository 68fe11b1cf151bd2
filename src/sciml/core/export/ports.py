"""What a task tells about a program: its tensors, and samples to check it with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

SIZES = ("traced", "smaller", "larger")
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}  # largest error by the dtype of the network
Measure = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Port:
    """One tensor that goes into a program or comes out of it.

    Args:
        name: Name of the tensor.
        shape: Sizes of its axes; a letter stands for a size that is free, the same letter for the
            same size.
        unit: Unit of its numbers, empty for those without.
        meaning: What it is, in a few words.
    """

    name: str
    shape: tuple[str | int, ...]
    unit: str
    meaning: str


@dataclass(frozen=True)
class Sample:
    """Inputs of one size with the outputs that the network itself gives.

    Args:
        inputs: Tensors by the names of the inputs.
        expected: Tensors by the names of the outputs.
    """

    inputs: Mapping[str, Tensor]
    expected: Mapping[str, Tensor]


@dataclass(frozen=True)
class ExportInputs:
    """Tensors of a program and samples of three sizes.

    Args:
        inputs: Inputs in their order.
        outputs: Outputs in their order.
        samples: For each of traced, smaller and larger.
        tolerance: Largest error, relative to the largest number of an output, by dtype.
        metadata: Plain values that a user of the program has to know.
        derivatives: Whether the module takes derivatives while it runs.
        measures: What outputs are compared as, by name; by default they are compared themselves.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    samples: Mapping[str, Sample]
    tolerance: Mapping[str, float] = field(default_factory=lambda: dict(TOLERANCE))
    metadata: Mapping[str, Any] = field(default_factory=dict)
    derivatives: bool = False
    measures: Mapping[str, Measure] = field(default_factory=dict)

    def tensors(self, size: str) -> tuple[Tensor, ...]:
        """Inputs of one size in their order.

        Args:
            size: One of traced, smaller and larger.
        """
        return tuple(self.samples[size].inputs[port.name] for port in self.inputs)

    def letters(self, size: str) -> dict[str, int]:
        """The free sizes in a sample, by their letters.

        Args:
            size: One of traced, smaller and larger.

        Raises:
            ValueError: If a sample is not what the ports say.
        """
        found: dict[str, int] = {}
        for port, tensor in zip(self.inputs, self.tensors(size), strict=True):
            axes = zip(port.shape, tensor.shape, strict=False)
            found |= {axis: n for axis, n in axes if isinstance(axis, str) and axis not in found}
            wanted = [axis if isinstance(axis, int) else found.get(axis) for axis in port.shape]
            if list(tensor.shape) != wanted:
                raise ValueError(
                    f"the {size} sample of {port.name} has the shape {tuple(tensor.shape)} where "
                    f"its port says {port.shape} with {found}"
                )
        return found

    def errors(self, size: str, outputs: tuple[Tensor, ...]) -> dict[str, float]:
        """Largest difference from what was expected, relative to the largest number expected.

        Args:
            size: One of traced, smaller and larger.
            outputs: What the program gave.

        Returns:
            By name of the output; infinite for another shape or dtype, or a number that is not
            finite on one side only.
        """
        expected = self.samples[size].expected
        return {
            port.name: _difference(found, expected[port.name], self.measures.get(port.name))
            for port, found in zip(self.outputs, outputs, strict=True)
        }


def _difference(found: Tensor, expected: Tensor, measure: Measure | None) -> float:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    if measure is not None:
        found, expected = measure(found), measure(expected)
    found, expected = found.double(), expected.double()
    finite = expected.isfinite()
    if not found.numel() or bool((finite != found.isfinite()).any()):
        return float("inf") if found.numel() else 0.0
    gap, size = (found - expected)[finite].abs(), expected[finite].abs()
    if not gap.numel():
        return 0.0
    return float(gap.max() / size.max().clamp(min=torch.finfo(torch.float64).tiny))
