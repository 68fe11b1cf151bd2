"""Simulated events without files."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sciml.xec.data.branches import (
    TRUTHS,
    Branch,
    Units,
    branches_of,
    find_layout,
    quantities,
)
from sciml.xec.data.source import ALWAYS
from sciml.xec.generate.events import BRANCHES, simulate
from sciml.xec.generate.settings import Settings

Sample = dict[str, Tensor]


class SimulatedEvents(Dataset[Sample]):
    """Events made when they are asked for.

    An event is what the loader of files gives of the same event: ``npho`` in photons and
    ``relative_time`` in s, float32 ``(4760,)`` with 1e10 for what is invalid, ``time_min`` in s,
    ``run``, ``event`` and ``number``, and the truths ``direction``, ``energy`` (GeV), ``timing``
    (ns), ``uvw``, ``xyz``, ``vertex`` (cm) and ``n_gamma``. It depends on the settings, the seed
    and its place only, so that workers and orders make no difference.

    Args:
        events: How many.
        settings: Of gammas and detector.
        seed: Of the random numbers, 0 or more.
        keep: Keep events that were made, 38 kB each; without, each epoch makes them again, and a
            set may have any size.

    Raises:
        ValueError: If there are no events or the seed is negative.
    """

    def __init__(
        self, events: int, settings: Settings | None = None, seed: int = 0, *, keep: bool = True
    ) -> None:
        if events < 1:
            raise ValueError(f"events is {events}; give at least 1")
        if seed < 0:
            raise ValueError(f"seed is {seed}; give 0 or more")
        self.events = events
        self.settings = settings or Settings()
        self.seed = seed
        self._kept: dict[int, Sample] | None = {} if keep else None

    def __len__(self) -> int:
        return self.events

    def __getitem__(self, index: int) -> Sample:
        if not -self.events <= index < self.events:
            raise IndexError(f"no event {index} among {self.events}")
        place = index % self.events
        if self._kept is not None and place in self._kept:
            return dict(self._kept[place])
        sample = self._make(place)
        if self._kept is not None:
            self._kept[place] = sample
        return dict(sample)

    def _make(self, place: int) -> Sample:
        known = {
            name: Branch(shape, np.dtype(kind).kind) for name, (kind, shape) in BRANCHES.items()
        }
        layout = find_layout(known, "the generator")
        names = (*ALWAYS, *TRUTHS)
        arrays = simulate(1, self.settings, self.seed, first=place)
        types = branches_of(layout, names)
        raw: dict[str, NDArray[Any]] = {one: arrays[one].astype(types[one]) for one in types}
        rows = quantities(raw, layout, names, Units())
        rows["number"] = np.array([place])
        return {name: torch.as_tensor(values[0]) for name, values in rows.items()}
