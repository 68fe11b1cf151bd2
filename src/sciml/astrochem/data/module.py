"""The base of the data modules: which files, which splits, what is preprocessed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from sciml.astrochem.data.artefacts import Artefacts, find
from sciml.astrochem.data.columns import shorten
from sciml.astrochem.data.files import choose_groups, open_file
from sciml.astrochem.data.preprocess import Recipe, make
from sciml.astrochem.data.rows import FileRows, MemoryRows, Rows
from sciml.astrochem.data.source import Reading, Source
from sciml.astrochem.data.splits import Splitting, train_rows
from sciml.astrochem.data.statistics import measure
from sciml.astrochem.data.table import TracerTable
from sciml.astrochem.physics.scaling import AbundanceScaler
from sciml.astrochem.physics.species import present_elements
from sciml.astrochem.physics.statistics import ChemistryStatistics
from sciml.core.data import DataModule, Split
from sciml.core.settings import caller, plain

Mode = Literal["preprocess", "train", "both"]
STEPS = 30  # steps of an epoch that an automatic batch size leaves


@dataclass(frozen=True)
class Store:
    """Where preprocessed tracers are kept, and how much is held in memory.

    Args:
        artefacts: Folder of the preprocessed tracers, one inside for every content and options.
        force_preprocess: Make them anew although they are there.
        max_rows: Rows of every split at most, whole tracers.
        memory_mib: Splits that are together larger are read from their files row by row.
    """

    artefacts: str = "data/astrochem/artefacts"
    force_preprocess: bool = False
    max_rows: int | None = None
    memory_mib: int = 512


READING = Reading()
SPLITTING = Splitting()
STORE = Store()


class ChemistryData(DataModule):
    """Tracers with their chemistry; the base of both data modules.

    The files are read once, checked, and written as artefacts that later runs find by their
    content. Splits are made of whole tracers. ``species``, ``elements`` and ``input_dim`` are known
    from the headers.

    Args:
        path: File or files to train and validate on, of any known layout.
        test: File or files to test and predict on.
        batch_size: Samples of a batch on every rank; ``automatic`` is what `auto` stands for.
        num_workers: Loader processes on every rank.
        seed: First number of the key that orders every epoch.
        lo: Abundance that scales to 0; smaller ones are clipped.
        hi: Abundance that scales to 1; larger ones are clipped.
        mode: Whether to preprocess, train on what was preprocessed, or both.
        reading: How files are read.
        split: How tracers are divided.
        store: Where preprocessed tracers are kept.
        samples_per_epoch: Length of a training epoch; by default the whole set.
        chunk_fraction: Share of the set that is shuffled together.
    """

    def __init__(
        self,
        path: str | list[str],
        *,
        test: str | list[str] | None,
        batch_size: int | Literal["auto"],
        num_workers: int,
        seed: int,
        lo: float,
        hi: float,
        mode: Mode,
        reading: Reading,
        split: Splitting,
        store: Store,
        samples_per_epoch: int | None = None,
        chunk_fraction: float = 1.0,
    ) -> None:
        self.scaler = AbundanceScaler(lo, hi)  # refuses an impossible range
        self.sources = choose_groups(_open(path, "path", reading), split.groups)
        self.tests = _open(test, "test", reading) if test else []
        _check_species([*self.sources, *self.tests])
        self.automatic: int | None = None
        if batch_size == "auto":
            rows = min(train_rows(self.sources, split), store.max_rows or 2**62)
            self._epoch = samples_per_epoch or rows
            self.automatic = batch_size = automatic_batch(self._epoch)
        super().__init__(
            batch_size,
            num_workers,
            seed=seed,
            samples_per_epoch=samples_per_epoch,
            chunk_fraction=chunk_fraction,
        )
        named = {name: None for source in self.sources for name in source.elements}
        self.species = list(self.sources[0].species)
        self.elements = list(present_elements(self.species, reading.elements or list(named)))
        self.input_dim = len(self.species)
        self.lo, self.hi, self.mode = lo, hi, mode
        self.reading, self.split, self.store = reading, split, store
        self._found: Artefacts | None = None
        self._rows: dict[str, Rows] = {}
        self._said: set[str] = set()

    def save_hyperparameters(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("frame", caller())
        super().save_hyperparameters(*args, **kwargs)
        # asked for this run, not for every test from its checkpoint
        self.hparams["store"] = plain(replace(self.store, force_preprocess=False))

    def prepare_data(self) -> None:
        self._find()
        if self.mode != "preprocess":
            measure(self.artefacts, self.lo, self.hi)

    def setup(self, stage: str) -> None:
        trainer = self.trainer
        if trainer is not None and trainer.world_size > 1:  # only the first process has looked
            if self.batch_size == self.automatic:
                self.batch_size = self.automatic = automatic_batch(self._epoch, trainer.world_size)
            name = self._found.folder.name if self._found is not None else ""
            name = trainer.strategy.broadcast(name)
            self._found = find(name, Path(self.store.artefacts))
            if self._found is None:
                raise ValueError(
                    f"process {trainer.global_rank} does not see {self.store.artefacts}/{name}; "
                    "choose a folder that all nodes share with --data.store.artefacts"
                )
        if self.mode == "preprocess":  # every process leaves here, after the first one has written
            rank_zero_info(f"the tracers are in {self.artefacts.folder}")
            raise SystemExit(0)

    def teardown(self, stage: str) -> None:
        for rows in self._rows.values():
            rows.close()

    @property
    def artefacts(self) -> Artefacts:
        """The preprocessed tracers, which are made when they are not there.

        Raises:
            ValueError: If they are missing and `mode` forbids to make them.
        """
        return self._found or self._find()

    def _find(self) -> Artefacts:
        recipe = Recipe(
            self.sources,
            self.tests,
            tuple(self.elements),
            self.reading,
            self.split,
            self.store.max_rows,
        )
        key, home = recipe.key(), Path(self.store.artefacts)
        found = find(key, home)
        if self.mode == "train" and found is None:
            raise ValueError(
                f"{home} has no tracers preprocessed from these files with these options, or the "
                "files have changed; run once with --data.mode both"
            )
        forced = self.store.force_preprocess and self.mode != "train" and self._found is None
        if found is None or forced:
            rank_zero_info(f"preprocessing {shorten([str(path) for path in self.files()])}")
            found = make(recipe, key, home, replace=forced)
        self._found = found
        return found

    def statistics(self) -> ChemistryStatistics:
        """Statistics of the training tracers, measured once and kept with the artefacts."""
        found = measure(self.artefacts, self.lo, self.hi)
        if not found.charge_conserved:
            self._say(
                "the training tracers do not conserve charge to 1e-6 of the electrons: "
                "charge will not be enforced"
            )
        if found.element_drift > 1e-3:
            self._say(
                f"element totals of the training tracers drift by up to {found.element_drift:.1e} "
                "over a tracer"
            )
        return found

    def chunks(self, split: Split) -> Iterator[TracerTable]:
        """The tracers of a split, a few whole ones at a time, as they were read.

        Args:
            split: Which part.
        """
        yield from self.artefacts.chunks(self.part(split))

    def files(self) -> list[Path]:
        """The data files, those of folders one by one."""
        paths = {source.path: None for source in (*self.sources, *self.tests)}
        return [
            file
            for path in paths
            for file in (sorted(path.glob("*.csv")) if path.is_dir() else [path])
        ]

    def part(self, split: Split) -> str:
        """Part of the artefacts that makes up a split: without test tracers those of validation.

        Args:
            split: Which part.
        """
        if split in {"train", "val"}:
            return split
        if self.artefacts.has("test"):
            return "test"
        if split == "test":
            self._say("test uses the validation tracers: no others are given (--data.test)")
        return "val"

    def rows(self, part: str) -> Rows:
        """Scaled rows of a part, in memory when all parts fit there.

        Args:
            part: Such as ``train``.
        """
        if part not in self._rows:
            there = [name for name in ("train", "val", "test") if self.artefacts.has(name)]
            arrays = {name: self.artefacts.rows(name) for name in there}
            size = sum(array.shape[0] * array.row_bytes for array in arrays.values())
            kind = MemoryRows if size <= self.store.memory_mib << 20 else FileRows
            self._rows[part] = kind(arrays[part], self.scaler)
        return self._rows[part]

    def _say(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            rank_zero_info(sentence)

    @property
    def collate(self) -> Callable[[Any], Any]:
        """A batch is assembled by the data set already."""
        return _as_it_is


def automatic_batch(samples: int, ranks: int = 1) -> int:
    """Largest power of two that leaves every rank at least 30 batches.

    Args:
        samples: Samples of an epoch.
        ranks: Processes that share them.
    """
    return int(2 ** np.floor(np.log2(max(samples // ranks // STEPS, 1))))


def _open(paths: str | list[str], flag: str, reading: Reading) -> list[Source]:
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    if not given:
        raise ValueError(f"data.{flag} is empty; name files of tracers with --data.{flag}")
    twice = {str(path) for path in given if given.count(path) > 1}
    if twice:
        raise ValueError(f"--data.{flag} names {shorten(sorted(twice))} twice; name a file once")
    try:
        return [source for path in given for source in open_file(path, reading)]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"--data.{flag}: {error}") from None


def _check_species(sources: Sequence[Source]) -> None:
    first = sources[0]
    for source in sources:
        if source.species == first.species:
            continue
        extra = sorted(set(source.species) - set(first.species))
        lost = sorted(set(first.species) - set(source.species))
        differences = [
            f"{what} {shorten(names)}" for what, names in (("has", extra), ("lacks", lost)) if names
        ]
        raise ValueError(
            f"{source.where} does not have the species of {first.where}: it "
            f"{' and '.join(differences)}; give files of one network"
        )


def _as_it_is(batch: Any) -> Any:
    return batch
