from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import Dataset, TensorDataset
from toy import EVALUATED, ToyData, ToyStream, make_task, make_trainer

from sciml.core.data import DataModule, Split
from sciml.core.loading import SizedBatches


class Seen(Callback):
    """Numbers of the samples in every batch, a list for each epoch or validation."""

    def __init__(self) -> None:
        self.train: list[list[int]] = []
        self.validation: list[list[int]] = []

    def on_train_epoch_start(self, trainer: Trainer, *rest: Any) -> None:
        self.train.append([])

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        self.train[-1] += batch[2].tolist()

    def on_validation_start(self, trainer: Trainer, *rest: Any) -> None:
        self.validation.append([])

    def on_validation_batch_start(
        self, trainer: Trainer, module: Any, batch: Any, index: int, loader: int = 0
    ) -> None:
        self.validation[-1] += batch[2].tolist()


def watch(folder: Path, data: DataModule, **trainer: Any) -> Seen:
    seen = Seen()
    make_trainer(folder, seen, **trainer).fit(make_task(), datamodule=data)
    return seen


def test_every_validation_sees_the_whole_split(tmp_path: Path) -> None:
    seen = watch(tmp_path, ToyData(), max_epochs=2, val_check_interval=0.5)
    sanity, *validations = seen.validation
    assert sanity == list(range(8))  # two batches
    assert validations == [list(range(EVALUATED))] * 4


def test_limited_validations_see_the_same_part(tmp_path: Path) -> None:
    seen = watch(tmp_path, ToyData(), max_epochs=2, val_check_interval=0.5, limit_val_batches=1)
    assert seen.validation == [[0, 1, 2, 3]] * 5


@pytest.mark.parametrize("data", [ToyData, ToyStream])
def test_every_epoch_has_all_samples_in_an_order_of_its_own(
    data: type[ToyData], tmp_path: Path
) -> None:
    seen = watch(tmp_path, data(), max_epochs=3)
    assert [sorted(epoch) for epoch in seen.train] == [list(range(14))] * 3
    assert len({tuple(epoch) for epoch in seen.train}) == 3
    assert watch(tmp_path, data(), max_epochs=3).train == seen.train


def test_limited_epochs_differ_too(tmp_path: Path) -> None:
    seen = watch(tmp_path, ToyData(), max_epochs=4, limit_train_batches=2)
    assert len({tuple(epoch) for epoch in seen.train}) == 4


def test_overfitting_sees_the_same_batches_without_shuffling(tmp_path: Path) -> None:
    seen = watch(tmp_path, ToyData(), max_epochs=2, overfit_batches=2)
    assert seen.train == [list(range(8))] * 2


@pytest.mark.parametrize("data", [ToyData, ToyStream])
def test_workers_stay_alive_and_end_with_the_run(data: type[ToyData], tmp_path: Path) -> None:
    module = data(num_workers=2)
    seen = watch(tmp_path, module, max_epochs=2)
    assert seen.train == watch(tmp_path, data(), max_epochs=2).train


def test_sizes_make_size_aware_batches() -> None:
    loader = ToyData(sized=True).train_dataloader()
    assert isinstance(loader.batch_sampler, SizedBatches)
    assert loader.batch_sampler.budget == 12


def test_short_epochs_go_through_the_data(tmp_path: Path) -> None:
    seen = watch(tmp_path, ToyData(samples_per_epoch=7), max_epochs=4)
    assert sorted(seen.train[0] + seen.train[1]) == list(range(14))
    assert sorted(seen.train[2] + seen.train[3]) == list(range(14))


class Empty(DataModule):
    """A data module with no samples in one split.

    Args:
        bare: The split.
    """

    def __init__(self, bare: Split) -> None:
        super().__init__(2, 0)
        self.bare = bare

    def files(self) -> list[Path]:
        return []

    def dataset(self, split: Split) -> Dataset[Any]:
        return TensorDataset(torch.zeros(0 if split == self.bare else 3))

    def sizes(self, split: Split) -> Sequence[int] | None:
        return None


@pytest.mark.parametrize("split", ["train", "val", "test", "predict"])
def test_empty_split_is_one_sentence(split: Split) -> None:
    with pytest.raises(ValueError, match=f"^the {split} split has no samples"):
        Empty(split).loader(split)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("sized", [False, True])
def test_split_too_small_for_the_processes_is_one_sentence(
    split: Split, sized: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sciml.core.loading import Rank

    for index in range(20):  # every process says so, or the others would wait for ever
        monkeypatch.setattr(ToyData, "_rank", lambda self, index=index: Rank(index, 20))
        with pytest.raises(ValueError, match="make no batch for some of 20 processes"):
            ToyData(sized=sized).loader(split)


def test_batch_size_has_to_be_positive() -> None:
    with pytest.raises(ValueError, match=r"data.batch_size is 0"):
        ToyData(batch_size=0)


def test_hyper_parameters_are_plain() -> None:
    class Pathed(Empty):
        def __init__(self, root: Path, scale: float) -> None:
            super().__init__("val")
            self.save_hyperparameters()

    stored = Pathed(Path("a/b"), np.float64(2.5)).hparams
    assert (stored["root"], stored["scale"]) == ("a/b", 2.5)
    assert {type(stored["root"]), type(stored["scale"])} == {str, float}
