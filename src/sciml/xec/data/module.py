"""The data module of ROOT files that are larger than memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sciml.core.data import DataModule, Split
from sciml.core.stream import StreamOrder
from sciml.xec.data.branches import (
    ALIASES,
    CONVENTIONAL,
    TRUTHS,
    Units,
    counts_are_relative,
    has_time_min,
)
from sciml.xec.data.cuts import NO_CUTS, Cuts
from sciml.xec.data.files import find_files
from sciml.xec.data.index import (
    UNITS,
    FileIndex,
    Index,
    Indexing,
    OnBadFile,
    build_index,
    missing,
)
from sciml.xec.data.memory import check_memory
from sciml.xec.data.profile import EventLoader, Profile
from sciml.xec.data.source import RootSource
from sciml.xec.data.statistics import measure
from sciml.xec.physics.statistics import EventStatistics

Paths = str | list[str]
SPLITS: tuple[Split, ...] = ("train", "val", "test", "predict")
USED: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
USED |= {"test": ("test",), "predict": ("predict",)}


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Args:
        on_bad_file: Whether a file that cannot be used ends the run or is left out with a warning.
        shuffle: Whether training mixes the events; otherwise they come in the files' order.
        relative_counts: Take ``relative_npho`` although a file does not tell the largest count; all
            a network with npho_threshold 0 and without an energy head needs.
        threads: Threads that decompress in each process.
        cache: Folder where the numbers of events are kept; by default one of the user's.
    """

    on_bad_file: OnBadFile = "fail"
    shuffle: bool = True
    relative_counts: bool = False
    threads: int = 1
    cache: str | None = None


READING = Reading()


class RootStream(DataModule):
    """Events of ROOT files, streamed.

    A batch of b events is a dictionary of raw values, float32, whole numbers int64: ``npho
    (b, 4760)`` photons, ``relative_time (b, 4760)`` s after ``time_min (b,)`` s, with 1e10 where
    there is none; ``run``, ``event`` and ``number (b,)``, the row in the order of the files; and
    of the truths ``direction (b, 3)``, ``energy (b,)`` GeV, ``timing (b,)`` ns, ``uvw``, ``xyz``
    and ``vertex (b, 3)`` cm, ``n_gamma (b,)`` and the conventional ``reco_energy``,
    ``reco_timing`` and ``reco_uvw`` those that all files have, NaN where an event has none.

    Paths are files, folders, patterns, lists of them, or text files that list them.

    Args:
        train: Files to train on.
        val: Files to validate on.
        test: Files to test on.
        predict: Files to predict; the cuts do not apply to them.
        tree: Name of the files' tree.
        batch_size: Events a batch on every rank.
        chunksize: Events that are read at once, rounded to the baskets of the file.
        chunks_per_block: Chunks that are shuffled together: mixing against memory.
        num_workers: Loader processes on every rank.
        seed: First number of the key that orders every epoch.
        cuts: Which events are used.
        units: Factors for files in other units.
        reading: How files are read.
    """

    def __init__(
        self,
        train: Paths | None = None,
        val: Paths | None = None,
        test: Paths | None = None,
        predict: Paths | None = None,
        *,
        tree: str = "tree",
        batch_size: int = 64,
        chunksize: int = 512,
        chunks_per_block: int = 4,
        num_workers: int = 0,
        seed: int = 0,
        cuts: Cuts = NO_CUTS,
        units: Units = UNITS,
        reading: Reading = READING,
    ) -> None:
        super().__init__(batch_size, num_workers, seed=seed)
        self.save_hyperparameters()
        settings = {"chunksize": chunksize, "chunks_per_block": chunks_per_block}
        for name, value in {**settings, "reading.threads": reading.threads}.items():
            if value < 1:
                raise ValueError(f"data.{name} is {value}; it has to be at least 1")
        given = {"train": train, "val": val, "test": test, "predict": predict}
        self.paths = {split: paths for split, paths in given.items() if paths}
        self.tree = tree
        self.chunksize = chunksize
        self.chunks_per_block = chunks_per_block
        self.cuts, self.units, self.reading = cuts, units, reading
        self._indexes: dict[str, Index] = {}
        self._loaders: dict[str, EventLoader] = {}

    def prepare_data(self) -> None:
        # one process looks at the files, the others find what it kept
        running = self.trainer.state.fn if self.trainer is not None else None
        for split in USED[running.value] if running is not None else SPLITS:
            if split in self.paths:
                self.index(split)

    def teardown(self, stage: str) -> None:
        for loader in self._loaders.values():
            loader.close()

    def index(self, split: Split) -> Index:
        """The files of a split and how many events they have.

        Args:
            split: Which part.

        Raises:
            FileNotFoundError: If no files are named, or one is missing; names the flag.
            BadFileError: If a file cannot be used.
        """
        if split not in self._indexes:
            indexing = Indexing(
                tree=self.tree,
                cuts=NO_CUTS if split == "predict" else self.cuts,
                units=self.units,
                on_bad_file=self.reading.on_bad_file,
                cache=Path(self.reading.cache).expanduser() if self.reading.cache else None,
            )
            paths = find_files(self.paths.get(split, []), f"--data.{split}")
            self._indexes[split] = build_index(paths, indexing)
        return self._indexes[split]

    def available(self, split: Split) -> tuple[str, ...]:
        """Quantities that all files of a split have.

        Args:
            split: Which part.
        """
        index = self.index(split)
        return tuple(name for name in ALIASES if all(_has(file, name) for file in index.files))

    @property
    def truths(self) -> tuple[str, ...]:
        """Truths that come with the batches of every split that is given, `predict` set apart."""
        splits = [split for split in SPLITS if split in self.paths and split != "predict"]
        found = [self.available(split) for split in splits]
        return tuple(name for name in TRUTHS if found and all(name in one for one in found))

    def need(self, names: Sequence[str], split: Split = "train", by: str = "the task") -> None:
        """Make sure that quantities are there; prediction needs no truth.

        Args:
            names: Keys of the batch; ``npho`` stands for counts in photons.
            split: Which part.
            by: What needs them, for the message.

        Raises:
            ValueError: If a file does not have one; names its branches.
        """
        unknown = [name for name in names if name not in ALIASES]
        if unknown:
            raise ValueError(f"no quantity '{unknown[0]}'; there are {', '.join(ALIASES)}")
        for name in names:
            if split == "predict" and name in TRUTHS:
                continue
            for file in self.index(split).files:
                if not _has(file, name):
                    relative = name == "npho"
                    raise ValueError(_relative(file) if relative else missing(name, file, by))

    def files(self) -> list[Path]:
        """The data files in use; before any was looked at, all that are named."""
        if self._indexes:
            found = [file.path for index in self._indexes.values() for file in index.files]
        else:
            found = [
                path
                for split, paths in self.paths.items()
                for path in find_files(paths, f"--data.{split}")
            ]
        return list(dict.fromkeys(found))

    def statistics(self) -> EventStatistics:
        """Constants of the conventional estimates, fitted on training events."""
        source = self._source("train")
        try:
            return measure(source)
        finally:
            source.close()

    def profile(self, split: Split = "train") -> Profile:
        """Counters and seconds of the last epoch of a split that was begun; its text is a line.

        Args:
            split: Which part.
        """
        return self._loaders[split].profile if split in self._loaders else Profile()

    def dataset(self, split: Split) -> Dataset[dict[str, Tensor]]:
        """The blocks of a split."""
        return self.loader(split).blocks

    def loader(self, split: Split) -> EventLoader:  # type: ignore[override]
        """The loader of a split for this rank.

        Args:
            split: Which part.

        Raises:
            ValueError: If the split is empty, makes no batch for some of the processes, or its
                blocks do not fit into memory.
        """
        source, rank = self._source(split), self._rank()
        total = sum(source.chunk_rows)
        if not total:
            raise ValueError(
                f"the {split} split has no events: {self._dropped(split)} are left out by the cuts "
                f"and {len(self.index(split).bad)} files cannot be used; see --data.{split}"
            )
        if total < rank.count:  # a process without batches would leave the others waiting for ever
            raise ValueError(
                f"{total} events of the {split} split make no batch for some of {rank.count} "
                "processes; use fewer processes or more data"
            )
        shuffled = split == "train" and self.reading.shuffle and not self._overfitting()
        if split == "train" and not shuffled:  # even ranks, as the shuffled order has them
            source = source.without_last(total % rank.count)
        order = StreamOrder(
            train=shuffled, seed=self.seed, chunks_per_block=self._blocking(source), rank=rank
        )
        processes = self.trainer.num_devices if self.trainer is not None else 1
        rows = sorted(source.chunk_rows)[-order.chunks_per_block :]
        check_memory(sum(rows), self.num_workers, processes)
        self._loaders[split] = EventLoader(
            source,
            order,
            self.batch_size,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            dropped=self._dropped(split),
        )
        return self._loaders[split]

    def _source(self, split: Split) -> RootSource:
        index = self.index(split)
        for file in index.files:
            if counts_are_relative(file.layout) and not self.reading.relative_counts:
                raise ValueError(
                    f"{_relative(file)}; if that is so, set --data.reading.relative_counts true"
                )
        available = self.available(split)
        return RootSource(
            index.files,
            tuple(name for name in (*TRUTHS, *CONVENTIONAL) if name in available),
            self.chunksize,
            units=self.units,
            threads=self.reading.threads,
            tree=self.tree,
        )

    def _blocking(self, source: RootSource) -> int:
        """Chunks of a block: fewer where large baskets make chunks larger than they should be."""
        largest = max(source.chunk_rows)
        return max(1, int(self.chunks_per_block * min(1, self.chunksize / largest)))

    def _dropped(self, split: Split) -> int:
        return sum(file.dropped for file in self.index(split).files)


def _has(file: FileIndex, name: str) -> bool:
    if name == "npho":
        return not counts_are_relative(file.layout)
    return has_time_min(file.layout) if name == "time_min" else name in file.layout


def _relative(file: FileIndex) -> str:
    return (
        f"{file.path} has relative_npho without npho_max_used, so that photon counts are known "
        "only relative to the largest one, which does for a network with npho_threshold 0 and "
        "without an energy head"
    )
