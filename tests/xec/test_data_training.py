import multiprocessing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from root_files import make_files
from torch import Tensor
from toy import Keep, ToyNet, ToyTask, Validations, differences, final_state, make_trainer

from sciml.core.loading import Rank
from sciml.core.predictions import PredictionWriter
from sciml.xec.data import RootStream
from sciml.xec.data.profile import EventLoader


class Line(ToyTask):
    """The toy task on two coordinates of the first interaction, for the energy."""

    def training_step(self, batch: Any, index: int) -> Tensor:
        return super().training_step(_pair(batch), index)

    def validation_step(self, batch: Any, index: int) -> None:
        super().validation_step(_pair(batch), index)

    def predict_step(self, batch: Any, index: int) -> dict[str, Tensor]:
        return {"y": self.net(_pair(batch)[0]), "number": batch["number"]}

    def identifiers(self, batch: Any) -> list[int]:
        return [int(number) for number in batch["number"]]


def _pair(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    return batch["uvw"][:, :2] / 50, batch["energy"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_files(folder, 11, 8, basket=3)
    return folder


def stream(folder: Path, workers: int = 0) -> RootStream:
    return RootStream(
        train=str(folder / "0.root"),
        val=str(folder / "1.root"),
        predict=str(folder),
        batch_size=3,
        chunksize=3,
        chunks_per_block=2,
        num_workers=workers,
    )


def make_task() -> Line:
    torch.manual_seed(0)
    return Line(ToyNet())


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_every_checkpoint_resumes_to_the_same_bits(
    folder: Path, tmp_path: Path, workers: int
) -> None:
    history = Validations()
    trainer = make_trainer(tmp_path, Keep(tmp_path / "kept"), history, max_epochs=2)
    data = stream(folder, workers)
    trainer.fit(make_task(), datamodule=data)
    assert (data.profile("train").epoch, data.profile("train").events) == (1, 11)
    assert data.profile("val").events == 8
    assert data.files() == [folder / "0.root", folder / "1.root"]
    expected = final_state(trainer)
    checkpoints = sorted((tmp_path / "kept").glob("*.ckpt"))
    assert len(checkpoints) >= 8
    for path in checkpoints if not workers else checkpoints[1::4]:
        resumed = make_trainer(tmp_path / "resumed", max_epochs=2)
        resumed.fit(make_task(), datamodule=stream(folder, workers), ckpt_path=path)
        assert not differences(final_state(resumed), expected), path.name
    assert not multiprocessing.active_children()


def test_predictions_come_in_the_order_of_the_files(folder: Path, tmp_path: Path) -> None:
    writer = PredictionWriter(str(tmp_path / "out.npz"))
    trainer = make_trainer(tmp_path, writer)
    data = stream(folder)
    trainer.predict(make_task(), datamodule=data, return_predictions=False)
    with np.load(tmp_path / "out.npz") as found:
        assert found["number"].tolist() == list(range(19))
    assert data.profile("predict").events == 19


@pytest.mark.filterwarnings("ignore:You requested to overfit:UserWarning")
def test_overfitting_one_batch_sees_the_same_events(folder: Path, tmp_path: Path) -> None:
    seen: list[list[int]] = []

    class Watched(Line):
        def training_step(self, batch: Any, index: int) -> Tensor:
            seen.append(batch["number"].tolist())
            return super().training_step(batch, index)

    trainer = make_trainer(tmp_path, max_epochs=3, overfit_batches=1)
    trainer.fit(Watched(ToyNet()), datamodule=stream(folder))
    assert seen == [[0, 1, 2]] * 3


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_files(tmp_path_factory.mktemp("long"), 40, basket=3)[0]


def long_stream(file: Path, workers: int = 0, rank: Rank = Rank()) -> RootStream:
    """Both splits from the same one file, of seven blocks."""
    data = RootStream(
        train=str(file),
        val=str(file),
        batch_size=3,
        chunksize=3,
        chunks_per_block=2,
        num_workers=workers,
    )
    data._rank = lambda: rank  # type: ignore[method-assign]
    return data


def numbers(loader: EventLoader, count: int | None = None) -> list[list[int]]:
    """Rows of the next batches; then the processes are stopped, as Lightning stops them."""
    found = [batch["number"].tolist() for batch in islice(loader, count)]
    if loader._iterator is not None:
        loader._iterator._shutdown_workers()
    return found


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("split", ["train", "val"])
def test_four_workers_give_the_batches_of_none(long_file: Path, split: Any) -> None:
    alone, helped = (numbers(long_stream(long_file, n).loader(split)) for n in (0, 4))
    assert len(alone) == 14
    assert helped == alone


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("world", [2, 3])
def test_one_file_feeds_all_ranks_and_their_workers(long_file: Path, world: int) -> None:
    ranks = [long_stream(long_file, 2, Rank(index, world)) for index in range(world)]
    trained = [numbers(data.loader("train")) for data in ranks]
    assert len({len(batches) for batches in trained}) == 1  # no rank waits for another
    seen = [number for batches in trained for batch in batches for number in batch]
    assert len(seen) == len(set(seen)) == 40 - 40 % world
    validated = [batch for data in ranks for batch in numbers(data.loader("val"))]
    assert [number for batch in validated for number in batch] == list(range(40))


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 1)])
def test_goes_on_with_another_number_of_workers(long_file: Path, before: int, after: int) -> None:
    whole = numbers(long_stream(long_file).loader("train"))
    for delivered in (1, 4, 12):  # within a block, at its end, within the last one
        stopped = long_stream(long_file, before).loader("train")
        assert numbers(stopped, delivered) == whole[:delivered]
        loader = long_stream(long_file, after).loader("train")
        loader.load_state_dict(stopped.state_dict())
        assert numbers(loader) == whole[delivered:]
