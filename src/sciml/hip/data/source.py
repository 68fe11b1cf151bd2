"""Records of a file by number: what the readers of all formats have in common."""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from sciml.hip.data.labels import USUAL, Labels
from sciml.hip.data.record import Record, checked, formula


class Source(Dataset[Record], ABC):
    """Molecules of one file, read one at a time and checked when read.

    Opening reads no record. Objects can be pickled, and every process opens the file for itself.

    Args:
        path: The file.
        labels: Names of the labels in it.
    """

    def __init__(self, path: Path, labels: Labels = USUAL) -> None:
        self.path = path
        self.labels = labels

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def raw(self, index: int) -> Record:
        """A record as it is in the file, unchecked, its Hessian in any shape.

        Args:
            index: From 0.

        Raises:
            ValueError: If it cannot be read.
        """

    @abstractmethod
    def names(self, index: int) -> list[str]:
        """Names of the labels a record has in the file, for messages."""

    @abstractmethod
    def sizes(self) -> NDArray[np.int64]:
        """Number of atoms of every record, without reading whole records."""

    @property
    def declared_e0(self) -> dict[int, float] | None:
        """Energy in eV of each element that the file says to take off, None if it says nothing."""
        return None

    @property
    def level_of_theory(self) -> str:
        """Method of the labels, as the file gives it."""
        return "unknown"

    def __getitem__(self, index: int) -> Record:
        return checked(self.raw(index), self.where(index))

    def numbers(self, index: int) -> NDArray[np.int64]:
        """Atomic numbers of a record, shape ``(n,)``."""
        return self.raw(index).numbers

    def reaction(self, index: int) -> int:
        """Number of the reaction a record belongs to, -1 when unknown."""
        return self.raw(index).reaction

    def formulas(self) -> list[str]:
        """Hill formula of every record; the atomic numbers of the whole file are read."""
        return [formula(self.numbers(index)) for index in range(len(self))]

    def reactions(self) -> NDArray[np.int64]:
        """Reaction number of every record."""
        return np.array([self.reaction(index) for index in range(len(self))], dtype=np.int64)

    def where(self, index: int) -> str:
        """Name of a record for messages."""
        return f"record {index} of {self.path}"

    def files(self) -> list[Path]:
        """The files the records come from."""
        return [self.path]

    def close(self) -> None:
        """Close the file in this process; reading opens it again."""

    def _label(self, key: str, usual: str, names: Collection[str], where: str) -> str | None:
        for name in (key, f"REF_{key}"):
            if name in names:
                return name
        if key == usual:
            return None
        found = ", ".join(sorted(names)) or "nothing"
        raise ValueError(
            f"{where} has no '{key}' and no 'REF_{key}'; found: {found}. "
            f"Name the one you mean with {usual}_key"
        )

    def _label_names(
        self, names: Collection[str], where: str
    ) -> tuple[str | None, str | None, str | None]:
        # the names of energy, forces and Hessian in this record; None: not there
        return (
            self._label(self.labels.energy_key, USUAL.energy_key, names, where),
            self._label(self.labels.forces_key, USUAL.forces_key, names, where),
            self._label(self.labels.hessian_key, USUAL.hessian_key, names, where),
        )


class Joined(Source):
    """Several sources, one after the other; a record's identifier is its number in the whole.

    Args:
        parts: The sources, at least one.
    """

    def __init__(self, parts: Sequence[Source]) -> None:
        super().__init__(parts[0].path, parts[0].labels)
        self.parts = list(parts)
        self.ends = list(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self.ends[-1]

    @property
    def declared_e0(self) -> dict[int, float] | None:
        """Energy in eV of each element that every part says to take off; None if one does not."""
        first = self.parts[0].declared_e0
        if any(part.declared_e0 is None for part in self.parts) or first is None:
            return None
        merged: dict[int, float] = {}
        for part in self.parts:
            for number, energy in (part.declared_e0 or {}).items():
                if abs(merged.setdefault(number, energy) - energy) > 1e-6:
                    raise ValueError(
                        f"{self.parts[0].path} and {part.path} declare different reference "
                        f"energies for element {number} ({merged[number]} and {energy} eV): set "
                        "--data.e0 average, or give the energies"
                    )
        return merged

    @property
    def level_of_theory(self) -> str:
        """Methods of the parts, each once."""
        return ", ".join(dict.fromkeys(part.level_of_theory for part in self.parts))

    def locate(self, index: int) -> tuple[Source, int]:
        """The part a record is in and its number there."""
        part = bisect_right(self.ends, index)
        return self.parts[part], index - (self.ends[part - 1] if part else 0)

    def raw(self, index: int) -> Record:
        source, local = self.locate(index)
        record = source.raw(local)
        record.identifier = index
        return record

    def names(self, index: int) -> list[str]:
        source, local = self.locate(index)
        return source.names(local)

    def sizes(self) -> NDArray[np.int64]:
        return np.concatenate([part.sizes() for part in self.parts])

    def numbers(self, index: int) -> NDArray[np.int64]:
        source, local = self.locate(index)
        return source.numbers(local)

    def formulas(self) -> list[str]:
        return [text for part in self.parts for text in part.formulas()]

    def reactions(self) -> NDArray[np.int64]:
        return np.concatenate([part.reactions() for part in self.parts])

    def where(self, index: int) -> str:
        source, local = self.locate(index)
        return source.where(local)

    def files(self) -> list[Path]:
        return [path for part in self.parts for path in part.files()]

    def close(self) -> None:
        for part in self.parts:
            part.close()
