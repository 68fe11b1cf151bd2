"""What is in files of events: ranges of every branch, invalid values, dead channels.

Shapes: b events, 4760 sensors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciml.xec.data.branches import Arrays, BadFileError, Branch
from sciml.xec.data.index import FileIndex, Indexing, look_at
from sciml.xec.data.root import RootFile
from sciml.xec.data.source import cut_entries
from sciml.xec.physics.constants import INVALID_FROM, SENSORS

CHUNK = 512  # entries that are in memory together
DEAD = 0.5  # share of the events in which a dead channel has no valid count
WIDE = 100  # values of an event from which a branch is looked at in single precision


@dataclass
class BranchSurvey:
    """Values of a branch so far.

    Args:
        values: How many there are.
        invalid: Those of 9e9 or more.
        nan: Those that are no number.
        infinite: Those that are infinite.
        negative: Valid ones below 0.
        lowest: Smallest valid value, infinite without any.
        highest: Largest valid value.
        total: Sum of the valid values.
    """

    values: int = 0
    invalid: int = 0
    nan: int = 0
    infinite: int = 0
    negative: int = 0
    lowest: float = np.inf
    highest: float = -np.inf
    total: float = 0.0

    @property
    def mean(self) -> float:
        """Of the valid values, NaN without any."""
        valid = self.values - self.invalid - self.nan - self.infinite
        return self.total / valid if valid else float("nan")

    def add(self, values: NDArray[np.floating]) -> None:
        """Look at some more values.

        Args:
            values: Of any shape.
        """
        valid = np.abs(values) < INVALID_FROM
        nan, infinite = _count(np.isnan(values)), _count(np.isinf(values))
        self.values += values.size
        self.nan += nan
        self.infinite += infinite
        self.invalid += values.size - _count(valid) - nan - infinite
        self.negative += _count(valid & (values < 0))
        self.lowest = float(values.min(where=valid, initial=self.lowest))
        self.highest = float(values.max(where=valid, initial=self.highest))
        self.total += float(values.sum(where=valid, dtype=np.float64))


class ChannelSurvey:
    """Photon counts of every channel so far."""

    def __init__(self) -> None:
        self.events = 0
        self.valid = np.zeros(SENSORS, dtype=np.int64)
        self.lowest = np.full(SENSORS, np.inf, dtype=np.float32)
        self.highest = np.full(SENSORS, -np.inf, dtype=np.float32)

    def add(self, counts: NDArray[np.float32]) -> None:
        """Look at some more events.

        Args:
            counts: Photons ``(b, 4760)``.
        """
        valid = np.abs(counts) < INVALID_FROM
        self.events += len(counts)
        self.valid += valid.sum(axis=0)
        self.lowest = np.minimum(self.lowest, counts.min(0, where=valid, initial=np.inf))
        self.highest = np.maximum(self.highest, counts.max(0, where=valid, initial=-np.inf))

    def dead(self, share: float = DEAD) -> NDArray[np.int64]:
        """Channels without a valid count in many events, or always with the same one.

        Args:
            share: Of the events, from which a channel is dead.

        Returns:
            Their ids.
        """
        if not self.events:
            return np.empty(0, dtype=np.int64)
        silent = self.events - self.valid >= share * self.events
        constant = (self.lowest == self.highest) & (self.valid > 1)
        return np.flatnonzero(silent | constant)


@dataclass
class Survey:
    """What was found in some files.

    Args:
        files: Those that can be read.
        bad: What is wrong with each of the others.
        branches: Values by branch.
        shapes: Shapes by branch; those that cannot be looked at are among them.
        channels: Photon counts by channel.
    """

    files: list[FileIndex] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    branches: dict[str, BranchSurvey] = field(default_factory=dict)
    shapes: dict[str, Branch] = field(default_factory=dict)
    channels: ChannelSurvey = field(default_factory=ChannelSurvey)

    @property
    def events(self) -> int:
        """Events of the files that can be read."""
        return sum(file.entries for file in self.files)

    @property
    def dropped(self) -> int:
        """Events that the cuts leave out."""
        return sum(file.dropped for file in self.files)

    def add(self, file: FileIndex, tree: str) -> None:
        """Look at all events of a file.

        Args:
            file: Its index.
            tree: Name of its tree.

        Raises:
            BadFileError: If it is damaged; what was read until then is counted.
        """
        opened = RootFile(file.path, tree)
        room: Arrays = {}
        try:
            for start, stop in cut_entries(file.edges, CHUNK):
                for name, branch in file.branches.items():  # one at a time: bounds the memory
                    self.shapes.setdefault(name, branch)
                    if branch.width:
                        kind = np.dtype(np.float32 if branch.width >= WIDE else np.float64)
                        values = opened.read({name: kind}, start, stop, room)[name]
                        self.branches.setdefault(name, BranchSurvey()).add(values)
                        if name == file.layout["npho"]:
                            self.channels.add(values)
        finally:
            opened.close()


def survey(
    paths: Sequence[Path],
    indexing: Indexing,
    progress: Callable[[int], None] = lambda finished: None,
) -> Survey:
    """Read files once and tell what is in them.

    Args:
        paths: The files.
        indexing: Tree and cuts.
        progress: Called with the number of finished files.
    """
    found = Survey()
    for number, path in enumerate(paths, start=1):
        try:
            file = look_at(path, indexing)
            found.add(file, indexing.tree)
            found.files.append(file)
        except BadFileError as error:
            found.bad.append(str(error))
        progress(number)
    return found


def _count(mask: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask))
