"""What every network that reconstructs gammas promises (b events)."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, cast

from lightning.pytorch.core.mixins.hparams_mixin import HyperparametersMixin
from torch import Tensor, nn

from sciml.xec.net.convnext import GRN
from sciml.xec.net.hexnext import HexConvolution
from sciml.xec.net.spaces import Space
from sciml.xec.physics.normalisation import PRESETS, Normalisation
from sciml.xec.physics.statistics import EventStatistics

Batch = Mapping[str, Tensor]
OUTPUTS = {"angle": 2, "energy": 1, "timing": 1, "uvwFI": 3, "angleVec": 3, "n_gamma": 5}


class XECNet(nn.Module, HyperparametersMixin, ABC):
    """Map what the 4760 sensors saw to the quantities of a gamma.

    The batch holds raw values, as the loader gives them; a network normalises them itself:

    - ``npho (b, 4760)`` float32, photons of every sensor
    - ``relative_time (b, 4760)`` float32, hit times in s after ``time_min``
    - ``time_min (b,)`` float32, earliest hit time of the event in s

    A value of 9e9 or more, infinite or not a number is invalid: a dead sensor, or one without a
    hit. The output has one entry for each of `tasks`, in the dtype of the parameters:

    - ``angle (b, 2)`` emission angles θ, φ in degrees
    - ``energy (b, 1)`` in GeV
    - ``timing (b, 1)`` emission time in ns
    - ``uvwFI (b, 3)`` first interaction u, v, w in cm
    - ``angleVec (b, 3)`` emission direction
    - ``n_gamma (b, 5)`` logits of 0 to 4 gammas

    Entries of `nll_tasks` are twice as wide: the means, then the logarithms of the variances.
    A concrete network calls ``save_hyperparameters`` with plain values only.

    Args:
        tasks: Names of the quantities to give, in the order of the output.
        nll_tasks: Those of them that come with variances.
    """

    def __init__(self, tasks: Sequence[str], nll_tasks: Sequence[str] = ()) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.nll_tasks = tuple(nll_tasks)
        known = ", ".join(OUTPUTS)
        for name in (*self.tasks, *self.nll_tasks):
            if name not in OUTPUTS:
                raise ValueError(f"model.net has no task '{name}'; its tasks are {known}")
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(
                f"model.net.tasks is {list(self.tasks)}; give some of {known}, each once"
            )
        if "n_gamma" in self.nll_tasks:
            raise ValueError(
                "model.net.nll_tasks holds n_gamma, whose output are logits of classes and not "
                "means; leave it out"
            )

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Reconstruct.

        Args:
            batch: Raw values of the sensors; other entries are not read.

        Returns:
            Output by task.
        """

    def width(self, task: str) -> int:
        """Numbers an event in the output of a task."""
        return OUTPUTS[task] * (2 if task in self.nll_tasks else 1)

    def space(self, task: str) -> Space:
        """The space in which a quantity is trained; here its own units.

        Args:
            task: One of `tasks`.
        """
        return Space([None] * OUTPUTS[task])

    def set_statistics(self, statistics: EventStatistics) -> None:
        """Take over constants fitted on the training events; by default none are used.

        Args:
            statistics: Of the training events.
        """

    def no_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone: all but weights of layers."""
        names = {name for name, parameter in self.named_parameters() if parameter.ndim < 2}
        for place, module in self.named_modules():
            if isinstance(module, GRN):
                names |= {f"{place}.gamma", f"{place}.beta"}
            elif isinstance(module, HexConvolution):
                names.add(f"{place}.bias")
        return names


def choose_normalisation(
    chosen: Mapping[str, float | str] | str, base: str = "legacy"
) -> Normalisation:
    """The normalisation that a network's argument means.

    Args:
        chosen: Name of a preset, or values by name.
        base: Preset of the values that are left out.

    Raises:
        ValueError: If there is no such preset or value.
    """
    if isinstance(chosen, str):
        if chosen not in PRESETS:
            raise ValueError(
                f"model.net.normalisation is '{chosen}'; give one of {', '.join(PRESETS)}, or "
                "values by name"
            )
        return PRESETS[chosen]
    known = [field.name for field in dataclasses.fields(Normalisation)]
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        raise ValueError(
            f"model.net.normalisation has no '{unknown[0]}'; its values are {', '.join(known)}"
        )
    return dataclasses.replace(PRESETS[base], **cast(dict[str, Any], dict(chosen)))
