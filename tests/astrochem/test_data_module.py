import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from layouts import write_plain
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from tracers import SPECIES, STEP, sample_table

from sciml.astrochem.data import AbundanceData, Reading, SequenceData, Splitting, Store, Windows
from sciml.astrochem.data.module import automatic_batch
from sciml.astrochem.data.table import concatenate
from sciml.astrochem.data.writer import write_groups
from sciml.core.optim import Optim
from sciml.core.task import Task

ROWS = (12, 20, 15, 9)
ELEMENTS = ["H", "C", "O"]


@pytest.fixture
def path(tmp_path: Path) -> str:
    groups = {"train": sample_table(ROWS), "val": sample_table((6, 8), seed=9)}
    file = tmp_path / "a.h5"
    write_groups(file, groups, dt_yr=STEP, generator="test", elements=ELEMENTS)
    return str(file)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_sizes_are_known_from_headers(path: str, tmp_path: Path) -> None:
    data = AbundanceData(path)
    assert data.species == list(SPECIES)
    assert data.elements == ELEMENTS  # as the file says
    assert data.input_dim == 8
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("samples", [1, 29, 30, 61, 959, 960, 961, 10**6])
def test_automatic_batch_is_the_largest_power_of_two_with_30_steps(samples: int) -> None:
    found = automatic_batch(samples)
    assert found & (found - 1) == 0
    assert samples // found >= 30 or found == 1
    assert samples // (2 * found) < 30


def test_automatic_batch_is_a_number_from_the_start(path: str) -> None:
    assert AbundanceData(path).batch_size == 1  # 56 rows
    assert AbundanceData(path, samples_per_epoch=500).batch_size == 16
    assert AbundanceData(path, batch_size=7).batch_size == 7


def test_rows_of_an_epoch_are_the_training_rows(path: str) -> None:
    data = AbundanceData(path, batch_size=10)
    batches = list(data.train_dataloader())
    assert [len(batch["abundance"]) for batch in batches] == [10] * 5 + [6]
    rows = torch.cat([batch["abundance"] for batch in batches])
    table = concatenate(list(data.chunks("train")))
    expected = data.scaler.scale(torch.from_numpy(table.abundances.copy()))
    assert torch.equal(rows.sort(0).values, expected.sort(0).values)
    tracers = torch.cat([batch["tracer"] for batch in batches])
    assert torch.bincount(tracers).tolist() == list(ROWS)


def test_batch_of_rows_equals_stacked_rows(path: str) -> None:
    dataset = AbundanceData(path).dataset("train")
    batch = dataset.__getitems__([5, 30, 0])
    for name, value in batch.items():
        assert torch.equal(value, torch.stack([dataset[row][name] for row in (5, 30, 0)]))
    assert batch["tracer"].tolist() == [0, 1, 0]


def test_validation_rows_come_in_order(path: str) -> None:
    data = AbundanceData(path, batch_size=5)
    rows = torch.cat([batch["abundance"] for batch in data.val_dataloader()])
    table = concatenate(list(data.chunks("val")))
    assert torch.equal(rows, data.scaler.scale(torch.from_numpy(table.abundances.copy())))


def test_other_limits_scale_otherwise(path: str) -> None:
    wide, narrow = (AbundanceData(path, batch_size=56, lo=lo) for lo in (1e-20, 1e-6))
    rows = next(iter(wide.val_dataloader()))["abundance"]
    expected = (1 - (1 - rows) * 20 / 6).clamp(0, 1)
    torch.testing.assert_close(next(iter(narrow.val_dataloader()))["abundance"], expected)
    with pytest.raises(ValueError, match="use 0 < lo < hi"):
        AbundanceData(path, lo=1.0, hi=0.5)


def test_windows_follow_the_schedule(path: str) -> None:
    data = SequenceData(
        path,
        window_schedule=[[0, 2], [1, 10]],
        windows=Windows(rows_per_batch=20, batches_per_epoch=3),
    )
    loader = data.train_dataloader()
    shapes = []
    for epoch in range(2):
        loader.batch_sampler.sampler.set_epoch(epoch)
        shapes += [tuple(batch["target"].shape) for batch in loader]
    assert shapes == [(10, 1, 8)] * 3 + [(8, 9, 8)] * 3


def test_whole_tracers_are_padded_windows(path: str) -> None:
    data = SequenceData(path, window_schedule="full", batch_size=4)
    (batch,) = data.train_dataloader()
    assert batch["target"].shape == (4, 19, 8)
    assert sorted(batch["valid"].sum(1).tolist()) == [8, 11, 14, 19]
    assert sorted(batch["row"].tolist()) == [0, 12, 32, 47]


@pytest.mark.parametrize("rows", [2, 3])
def test_automatic_batch_of_windows_leaves_30_steps(rows: int, tmp_path: Path) -> None:
    groups = {"train": sample_table((60, 70)), "val": sample_table((6,), seed=9)}
    file = tmp_path / "b.h5"
    write_groups(file, groups, dt_yr=STEP, generator="test", elements=ELEMENTS)
    data = SequenceData(str(file), window_schedule=[[0, rows], [1, 60]])
    loader: Any = data.train_dataloader()
    windows = 130 - 2 * (rows - 1)
    assert loader.batch_sampler.sizes == {rows: 4, 60: 1}  # 12 windows of 60 rows
    assert len(loader) == -(-windows // 4) >= 30
    data.batch_size = 7  # as a search for the largest one sets it
    assert next(iter(data.train_dataloader()))["row"].shape == (7,)


def test_automatic_batch_leaves_30_steps_to_every_rank() -> None:
    assert automatic_batch(1920) == 64
    assert automatic_batch(1920, ranks=2) == 32


@pytest.mark.parametrize("name", ["stride", "rows_per_batch", "first_weight", "eval_batch_size"])
def test_windows_of_nothing_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"data.windows.{name} is 0; it has to be at least 1"):
        Windows(**{name: 0})


def test_tracers_of_a_single_row_are_left_out(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    groups = {"train": sample_table((6, 1, 5)), "val": sample_table((1, 6, 1), seed=9)}
    file = tmp_path / "b.h5"
    write_groups(file, groups, dt_yr=STEP, generator="test", elements=ELEMENTS)
    data = SequenceData(str(file), window_schedule=[[0, 2]], batch_size=9)
    (batch,) = data.val_dataloader()
    assert batch["row"].tolist() == [1]
    assert "2 of 3 val tracers are left out" in told.text
    (batch,) = data.train_dataloader()
    assert sorted(batch["tracer"].tolist()) == [0] * 5 + [2] * 4


def test_preprocessing_anew_is_not_stored(path: str) -> None:
    data = SequenceData(path, store=Store(force_preprocess=True, max_rows=40))
    assert data.store.force_preprocess
    assert dict(data.hparams)["store"]["force_preprocess"] is False
    assert dict(data.hparams)["store"]["max_rows"] == 40


def test_overfitting_repeats_its_windows(path: str) -> None:
    data = SequenceData(path, batch_size=5)
    data.trainer = Trainer(overfit_batches=2, accelerator="cpu", logger=False)
    loader = data.train_dataloader()
    epochs = []
    for epoch in (0, 3):
        loader.batch_sampler.sampler.set_epoch(epoch)
        epochs.append([batch["row"].tolist() for batch in loader])
    assert epochs[0] == epochs[1]


def test_short_tracers_are_left_out_with_a_word(path: str, told: pytest.LogCaptureFixture) -> None:
    data = SequenceData(path, window_schedule=[[0, 13]], batch_size=4)
    rows = [row for batch in data.train_dataloader() for row in batch["row"].tolist()]
    assert len(rows) == 8 + 3 + 1  # 11 windows in passes of whole batches
    assert all(12 <= row < 47 for row in rows)
    assert "2 of 4 training tracers have fewer than 13 rows" in told.text


def test_short_tracers_are_used_on_request(path: str) -> None:
    windows = Windows(allow_short=True)
    data = SequenceData(path, window_schedule=[[0, 13]], batch_size=13, windows=windows)
    (batch,) = data.train_dataloader()
    assert set(batch["tracer"].tolist()) == {0, 1, 2, 3}
    assert not batch["valid"].all()


def test_validation_sees_whole_tracers_in_order(path: str) -> None:
    data = SequenceData(path, windows=Windows(eval_batch_size=1))
    batches = list(data.val_dataloader())
    assert [tuple(batch["target"].shape) for batch in batches] == [(1, 5, 8), (1, 7, 8)]
    assert [batch["row"].tolist() for batch in batches] == [[0], [6]]
    table = concatenate(list(data.chunks("val")))
    expected = data.scaler.scale(torch.from_numpy(table.abundances[7:14].copy()))
    assert torch.equal(batches[1]["target"][0], expected)


def test_other_files_can_be_tested_on(path: str, tmp_path: Path) -> None:
    other = write_plain(tmp_path / "b.h5", {"long": sample_table((30,), seed=50)})
    reading = Reading(elements=ELEMENTS)
    data = SequenceData(path, test=str(other), reading=reading)
    for loader in (data.test_dataloader(), data.predict_dataloader()):
        (batch,) = loader
        assert batch["target"].shape == (1, 29, 8)
    assert [str(file) for file in data.files()] == [path, str(other)]


def test_without_test_tracers_those_of_validation_are_tested(
    path: str, told: pytest.LogCaptureFixture
) -> None:
    data = SequenceData(path)
    (batch,) = data.test_dataloader()
    assert batch["tracer"].tolist() == [4, 5]
    assert "test uses the validation tracers" in told.text


def test_groups_of_all_files_are_chosen(path: str, tmp_path: Path) -> None:
    groups = {"long": sample_table((30,), seed=50), "static": sample_table((5,), seed=60)}
    other = str(write_plain(tmp_path / "b.h5", groups))
    split = Splitting(groups=["train", "val", "long"])
    data = AbundanceData([path, other], split=split, reading=Reading(elements=ELEMENTS))
    assert data.statistics().tracers == 5
    with pytest.raises(ValueError, match="has no group short; it has train, val, long, static"):
        AbundanceData([path, other], split=Splitting(groups=["short"]))


@pytest.mark.filterwarnings("ignore:no species holds:UserWarning")
def test_files_of_other_species_are_refused(path: str, tmp_path: Path) -> None:
    table = sample_table()
    table.species = (*SPECIES[:-1], "N")
    other = str(write_plain(tmp_path / "b.h5", {"long": table}))
    with pytest.raises(ValueError, match=r"group long of .*b\.h5 does .*: it has N and lacks O; "):
        AbundanceData([path, other])


@pytest.mark.parametrize(
    ("given", "flag"), [({"path": "b.h5"}, "path"), ({"test": "b.h5"}, "test")], ids=str
)
def test_missing_file_names_its_flag(given: dict[str, str], flag: str, path: str) -> None:
    with pytest.raises(FileNotFoundError, match=rf"--data\.{flag}: b\.h5 is missing"):
        AbundanceData(**{"path": path, **given})


def test_file_named_twice_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"names .*a\.h5 twice"):
        AbundanceData([path, path])


@pytest.mark.parametrize("schedule", [[], [[1, 2]], [[0, 1]], [[0, 2], [0, 3]], [[0, 2, 3]]])
def test_impossible_schedule_is_refused(schedule: list[list[int]], path: str) -> None:
    with pytest.raises(ValueError, match=r"data\.window_schedule is"):
        SequenceData(path, window_schedule=schedule)


def test_absent_elements_are_dropped_with_a_warning(tmp_path: Path) -> None:
    groups = {"train": sample_table(ROWS), "val": sample_table((5,), seed=9)}
    file = str(write_plain(tmp_path / "b.h5", groups))
    with pytest.warns(UserWarning, match="no species holds HE N S SI MG CL"):
        assert AbundanceData(file).elements == ELEMENTS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert AbundanceData(file, reading=Reading(elements=["C", "H", "O"])).elements[0] == "C"


@pytest.mark.parametrize("kind", [AbundanceData, SequenceData])
def test_arguments_are_stored_as_plain_values(kind: Any, path: str, tmp_path: Path) -> None:
    data = kind(path, split=Splitting(fractions=[0.5, 0.5]), store=Store(max_rows=40))
    torch.save(dict(data.hparams), tmp_path / "hparams.pt")
    stored = torch.load(tmp_path / "hparams.pt", weights_only=True)
    assert stored["split"]["fractions"] == [0.5, 0.5]
    assert stored["store"]["max_rows"] == 40
    assert stored["batch_size"] == "auto"


class Linear(Task):
    """Some weights that follow the batches they see."""

    def __init__(self) -> None:
        super().__init__(Optim(name="sgd", lr=0.1))
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(8, 8)
        torch.nn.init.eye_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)
        self.seen: list[tuple[int, list[int]]] = []

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        self.seen.append((batch["target"].shape[1], batch["row"].tolist()))
        return (self.layer(batch["x0"]) - batch["target"][:, -1]).square().mean()

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        assert batch["row"][0] == 0


class Stop(Callback):
    """Ends training after some steps and keeps a checkpoint of that moment."""

    def __init__(self, step: int, file: Path) -> None:
        self.step, self.file = step, file

    def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.file)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("step", [2, 3, 5])
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*num_workers.*")
@pytest.mark.filterwarnings("ignore:.*persistent_workers.*", "ignore:This DataLoader will create")
def test_training_continues_with_the_windows_that_were_left(
    step: int, workers: int, path: str, tmp_path: Path
) -> None:
    def run(resumed: Path | None, *callbacks: Callback) -> Linear:
        data = SequenceData(
            path,
            window_schedule=[[0, 2], [1, 4]],
            batch_size=5,
            num_workers=workers,
            windows=Windows(batches_per_epoch=3),
        )
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=3,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=list(callbacks),
        )
        module = Linear()
        trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)
        return module

    file = tmp_path / "stopped.ckpt"
    whole = run(None, Stop(step, file))
    assert [rows for rows, _ in whole.seen] == [1] * 3 + [3] * 6
    rest = run(file)
    assert rest.seen == whole.seen[step:]
    assert torch.equal(rest.layer.weight, whole.layer.weight)


def test_chunks_of_rows_are_mixed_apart(path: str) -> None:
    data = AbundanceData(path, batch_size=8, chunk_fraction=0.25)
    sampler: Any = data.train_dataloader().batch_sampler.sampler
    order = list(sampler)
    assert {row // 14 for row in order[:14]} != {0, 1, 2, 3}
    assert len({row // 14 for row in order[:14]}) == 1
