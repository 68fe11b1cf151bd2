"""The data module of molecules with energies, forces and Hessians."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray

from sciml.core.data import DataModule, Split
from sciml.core.files import write_json
from sciml.hip.data.batch import Batch, collate
from sciml.hip.data.files import expand, open_source
from sciml.hip.data.labels import USUAL, Labels
from sciml.hip.data.molecules import Molecules
from sciml.hip.data.record import Record
from sciml.hip.data.source import Joined, Source
from sciml.hip.data.splits import Parts, group_parts, random_parts, read_parts, repeated, subset
from sciml.hip.data.statistics import measure
from sciml.hip.physics.statistics import HessianStatistics

Files = str | list[str] | None
Rule = Literal["files", "random", "formula", "reaction", "indices"]


@dataclass(frozen=True)
class Batching:
    """How molecules become batches.

    Args:
        r_max: Radius of the neighbour table in Å; at least the cutoff of the network.
        bucket: Put molecules of similar size together, so that little of a batch is padding.
        max_atoms: Largest number of atoms in a batch, besides ``batch_size``; needs ``bucket``.
        max_hessian_entries: Largest sum of (3n)² in a batch, besides the others; null: no limit.
    """

    r_max: float = 5.0
    bucket: bool = True
    max_atoms: int | None = None
    max_hessian_entries: int | None = 2_000_000


@dataclass(frozen=True)
class Subset:
    """Which of the records are used, and how often.

    Args:
        indices: JSON file with the record numbers of ``train``, ``val`` and ``test``, such as the
            ``splits.json`` of a run; for ``--data.split indices``.
        max_train: Train on at most so many; a larger limit adds records to those of a smaller one.
        max_val: Validate on at most so many.
        max_statistics: Records that statistics and reference energies are taken from.
        samples_per_epoch: Length of an epoch; the next one goes on where it stopped.
        weights_per_file: How often an epoch uses the records of each entry of ``train``.
    """

    indices: str | None = None
    max_train: int | None = None
    max_val: int | None = None
    max_statistics: int = 20_000
    samples_per_epoch: int | None = None
    weights_per_file: list[float] | None = None


MANY = 50_000  # molecules whose reading takes seconds, which is announced
BATCHING = Batching()
SUBSET = Subset()


class HessianData(DataModule):
    """Molecules with energies, forces and Hessians, in LMDB, HDF5 or extended XYZ files.

    A part (training, validation, test) that is given as files is taken from these, the others are
    cut out of the training files. Every path may be a file, a folder of files or a pattern.
    A batch is the dictionary of `sciml.hip.data.batch.collate`.

    Args:
        train: Files to train on and to cut other parts from.
        val: Files of validation molecules.
        test: Files of test molecules, also for predictions.
        split: How parts are cut: `random`; `formula` or `reaction`, so that parts share none;
            `indices` from a file; `files` cuts nothing. By default `files` with ``val``, else
            `random`.
        fractions: Shares of training, validation and test; without a test share the validation
            molecules are the test molecules.
        seed: Orders the split, the subsets and every epoch.
        batch_size: Molecules on every rank and step, at most.
        num_workers: Loader processes on every rank.
        e0: Energies in eV taken off every element: `auto` as the files declare, else `average`, a
            least-squares fit; `isolated`, atoms at ωB97X/6-31G(d); or a table of atomic numbers.
        batching: How molecules become batches.
        subset: Which records are used, and how often.
        labels: Names of the labels in the files.
    """

    def __init__(
        self,
        train: Files = "data/hip/train.h5",
        val: Files = None,
        test: Files = None,
        *,
        split: Rule | None = None,
        fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
        seed: int = 0,
        batch_size: int = 8,
        num_workers: int = 2,
        e0: Literal["auto", "average", "isolated"] | dict[int, float] = "auto",
        batching: Batching = BATCHING,
        subset: Subset = SUBSET,
        labels: Labels = USUAL,
    ) -> None:
        super().__init__(
            batch_size, num_workers, seed=seed, samples_per_epoch=subset.samples_per_epoch
        )
        self.save_hyperparameters()
        if batching.max_atoms is not None and not batching.bucket:
            raise ValueError("data.batching.max_atoms needs data.batching.bucket: set it to true")
        self.given: dict[str, Files] = {"train": train, "val": val, "test": test}
        self.rule: Rule = split or ("files" if val else "random")
        self.fractions = fractions
        self.e0 = e0
        self.batching = batching
        self.subset = subset
        self.labels = labels
        self._elements: tuple[int, ...] | None = None
        self._sources: dict[str, Source] = {}
        self._sizes: dict[Source, NDArray[np.int64]] = {}
        self._said: set[str] = set()

    def dataset(self, split: Split) -> Molecules:
        source, indices = self._select(split)
        if split == "train" and self.subset.weights_per_file is not None:
            ends = source.ends if isinstance(source, Joined) else [len(source)]
            indices = repeated(indices, ends, self.subset.weights_per_file, self.seed)
        if not len(indices):
            raise ValueError(
                f"there are no {split} molecules with data.split {self.rule} and data.fractions "
                f"{list(self.fractions)}; give --data.{'test' if split == 'predict' else split} or "
                "another split"
            )
        known = None if split == "predict" else self._elements
        return Molecules(source, indices, labelled=split != "predict", elements=known)

    def sizes(self, split: Split) -> NDArray[np.int64] | None:
        if not self.batching.bucket or split == "predict":  # predictions keep the order of the file
            return None
        molecules = self.dataset(split)
        if molecules.source not in self._sizes:  # one pass over the file's directory
            self._sizes[molecules.source] = molecules.source.sizes()
        sizes: NDArray[np.int64] = self._sizes[molecules.source][molecules.indices]
        return sizes

    def cost(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        # whole numbers against `budget`, exact for either limit and safe for both
        atoms, entries = self.batching.max_atoms, self.batching.max_hessian_entries
        by_atoms = sizes * (entries or 1) if atoms else np.zeros_like(sizes)
        by_entries = 9 * sizes**2 * (atoms or 1) if entries else np.zeros_like(sizes)
        return np.maximum(by_atoms, by_entries)

    @property
    def r_max(self) -> float:
        """Radius of the neighbour table in Å."""
        return self.batching.r_max

    @property
    def budget(self) -> int | None:
        """Largest cost of a batch, None without a limit on atoms or Hessian entries."""
        atoms, entries = self.batching.max_atoms, self.batching.max_hessian_entries
        return (atoms or 1) * (entries or 1) if atoms or entries else None

    @property
    def collate(self) -> Callable[[list[Record]], Batch]:
        """Batch of records with neighbours within ``r_max``."""
        return partial(collate, cutoff=self.r_max)

    def statistics(self) -> HessianStatistics:
        """Statistics of the training molecules; later records with other elements are refused."""
        source, indices = self._select("train")
        indices = subset(indices, self.subset.max_statistics, self.seed)
        statistics = measure(source, indices, self.e0, self.r_max)
        self._elements = statistics.elements
        return statistics

    def files(self) -> list[Path]:
        """The data files that are given and exist."""
        paths: dict[Path, None] = {}
        for given in filter(None, self.given.values()):
            for path in expand(given, missing_ok=True):
                paths[path / "data.mdb" if path.is_dir() else path] = None
        return list(paths)

    def write_splits(self, folder: Path) -> None:
        """Write which records make up the parts that are cut from the training files.

        The file can be given to ``--data.subset.indices`` with ``--data.split indices``.

        Args:
            folder: Where ``splits.json`` is put.
        """
        parts = [
            part for part in ("train", "val", "test") if part == "train" or not self.given[part]
        ]
        content: dict[str, object] = {
            "split": self.rule,
            "seed": self.seed,
            "fractions": list(self.fractions),
            "files": {
                part: [str(path) for path in self._source("train").files()] for part in parts
            },
        }
        for part in parts:
            content[part] = self._indices(part).tolist()
        write_json(folder / "splits.json", content)

    def setup(self, stage: str) -> None:
        if self.trainer is None or stage != "fit" or self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        folder = self.trainer.log_dir  # asked for on every rank: they agree on it together
        if self.trainer.is_global_zero and self.trainer.loggers and folder:
            self.write_splits(Path(folder))

    def teardown(self, stage: str) -> None:
        for source in self._sources.values():
            source.close()

    def _select(self, split: Split) -> tuple[Source, NDArray[np.int64]]:
        part = "test" if split == "predict" else split
        if part == "test" and not self.given["test"]:
            cut = self.rule != "files" and len(self._parts.test)
            part = "test" if cut else "val"
        indices = self._indices(part)
        if part == "val" and split == "test":
            self._say(
                f"test uses the {len(indices)} validation molecules: no test molecules are given "
                "(--data.test) or cut off (--data.fractions)"
            )
        return self._source(part if self.given[part] else "train"), indices

    def _indices(self, part: str) -> NDArray[np.int64]:
        if part != "train" and self.given[part]:
            indices = np.arange(len(self._source(part)))
        else:
            indices = getattr(self._parts, part)
        if part == "train":
            self._tell_unused()
            return subset(indices, self.subset.max_train, self.seed)
        return subset(indices, self.subset.max_val, self.seed) if part == "val" else indices

    def _source(self, part: str) -> Source:
        if part not in self._sources:
            given = self.given[part]
            if not given:
                raise ValueError(f"data.{part} is empty; name files with --data.{part}")
            entries = [given] if isinstance(given, str | Path) else given
            try:
                sources = [open_source(entry, self.labels) for entry in entries]
            except FileNotFoundError as error:
                raise FileNotFoundError(f"--data.{part}: {error}") from None
            self._sources[part] = sources[0] if len(sources) == 1 else Joined(sources)
        return self._sources[part]

    @cached_property
    def _parts(self) -> Parts:
        # how the training files are cut; parts with files of their own do not use their share
        source = self._source("train")
        nothing = np.zeros(0, dtype=np.int64)
        if self.rule == "files":
            return Parts(np.arange(len(source)), nothing, nothing)
        if self.rule == "random":
            return random_parts(len(source), self.fractions, self.seed)
        if self.rule == "indices":
            if self.subset.indices is None:
                raise ValueError("data.split is indices: name the file, --data.subset.indices")
            return read_parts(Path(self.subset.indices), len(source))
        if len(source) > MANY:
            self._say(f"reading what {len(source)} molecules belong to, for data.split {self.rule}")
        if self.rule == "formula":
            return group_parts(source.formulas(), self.fractions, self.seed, "formula")
        reactions = source.reactions()
        if (reactions < 0).any():
            raise ValueError(
                f"{source.where(int((reactions < 0).argmax()))} belongs to no known reaction; "
                "use --data.split formula"
            )
        return group_parts(reactions, self.fractions, self.seed, "reaction")

    def _tell_unused(self) -> None:
        for part in ("val", "test"):
            count = len(getattr(self._parts, part))
            if count and self.given[part]:
                self._say(
                    f"{count} molecules of the training files are left out as their {part} share, "
                    f"although --data.{part} is given; set that share to 0 in --data.fractions to "
                    "train on them"
                )

    def _say(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            rank_zero_info(sentence)
