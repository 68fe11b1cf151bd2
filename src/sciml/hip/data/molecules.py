"""The records of one split as a data set for loaders."""

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from sciml.hip.data.energies import element_name
from sciml.hip.data.record import Record
from sciml.hip.data.source import Source


class Molecules(Dataset[Record]):
    """Some records of a source, checked for what training and testing need.

    Args:
        source: Where they are.
        indices: Their numbers; one may occur more than once.
        labelled: Refuse a record without any label.
        elements: Atomic numbers that have a reference energy; None does not check.
    """

    def __init__(
        self,
        source: Source,
        indices: NDArray[np.int64],
        *,
        labelled: bool = True,
        elements: tuple[int, ...] | None = None,
    ) -> None:
        self.source = source
        self.indices = indices
        self.labelled = labelled
        self.elements = elements

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record:
        place = int(self.indices[index])
        record = self.source[place]
        labels = (record.energy, record.forces, record.hessian)
        if self.labelled and all(label is None for label in labels):
            found = ", ".join(sorted(self.source.names(place))) or "no label"
            raise ValueError(
                f"{self.source.where(place)} has neither energy nor forces nor Hessian; found: "
                f"{found}. Name your labels with --data.labels.energy_key, forces_key, hessian_key"
            )
        if self.elements is not None:
            self._check_elements(record, place)
        return record

    def _check_elements(self, record: Record, place: int) -> None:
        new = set(record.numbers.tolist()).difference(self.elements or ())
        if new:
            raise ValueError(
                f"element {element_name(min(new))} in {self.source.where(place)} has no reference "
                "energy: the training molecules have none of it; leave such records out, or train "
                "on some (--data.subset.max_statistics limits how many are looked at)"
            )
