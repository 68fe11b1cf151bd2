import pickle
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy import Keep, ToyData, ToyNet, ToyTask, differences, edited, make_task, make_trainer

import sciml
from sciml.core import checkpoint
from sciml.core.checkpoint import AtomicCheckpointIO, load, load_weights, migrate, read
from sciml.core.optim import Optim


@pytest.fixture(autouse=True)
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the toy as a part of sciml."""
    monkeypatch.setattr(checkpoint, "PACKAGE", "toy.")


# loading


def test_load_gives_the_averaged_task_in_evaluation_mode(trained: Path) -> None:
    task = sciml.load(trained)
    assert type(task) is ToyTask
    assert not task.training
    assert not differences(dict(task.state_dict()), dict(read(trained)["state_dict"]))
    assert task.optim == Optim(lr=0.01)


def test_loaded_task_trains_with_dropout_on(trained: Path, tmp_path: Path) -> None:
    task = load(trained)
    make_trainer(tmp_path / "again", max_epochs=1).fit(task, datamodule=ToyData())
    assert int(task.get_buffer("net.calls")) == 8  # counted in training mode only


class Kind(Enum):
    LONG = "long"


class Scale(float):
    pass


class RichTask(ToyTask):
    """A task with arguments of many types.

    Args:
        net: Network.
        root: A folder.
        scale: A number.
        kind: A choice.
        elements: Whole numbers.
        table: Numbers by name.
        optim: How the weights are updated.
    """

    def __init__(
        self,
        net: ToyNet,
        root: Path,
        scale: float,
        kind: Kind,
        elements: tuple[int, ...],
        table: dict[str, float],
        optim: Optim = Optim(),
    ) -> None:
        super().__init__(net, optim)
        self.save_hyperparameters()
        self.given = (root, scale, kind, elements, table)


@pytest.mark.parametrize("scale", [np.float64(0.25), Scale(0.25), np.float32(0.25)])
def test_tasks_built_by_hand_save_resume_and_load(
    scale: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "PACKAGE", "")

    def make() -> RichTask:
        elements: Any = tuple(np.array([1, 8]))
        table = {"a": np.float32(0.5)}
        optim = Optim(lr=np.float64(0.01), betas=(np.float64(0.9), 0.99))
        return RichTask(
            ToyNet(np.int64(8)), Path("data/x"), scale, Kind.LONG, elements, table, optim
        )

    trainer = make_trainer(tmp_path, Keep(tmp_path / "kept"), max_epochs=1)
    trainer.fit(make(), datamodule=ToyData())
    path = tmp_path / "kept/002-batch.ckpt"
    torch.load(path, weights_only=True)
    make_trainer(tmp_path, max_epochs=1).fit(make(), datamodule=ToyData(), ckpt_path=path)
    loaded = load(path)
    assert isinstance(loaded, RichTask)
    assert loaded.given[1:] == (0.25, Kind.LONG, (1, 8), {"a": 0.5})
    assert Path(loaded.given[0]) == Path("data/x")
    assert loaded.optim == Optim(lr=0.01, betas=(0.9, 0.99))


# files that are not what they should be


def test_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at nowhere.ckpt; give --ckpt_path"):
        load("nowhere.ckpt")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", pickle.dumps({"a": 1})])
def test_other_files_are_no_checkpoints(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x.ckpt (is not a readable checkpoint|holds no hyper)"):
        load(path)


@pytest.mark.parametrize("content", [{}, [1], {"hyper_parameters": {}}, {"state_dict": {}}])
def test_tensors_of_something_else_are_no_checkpoint(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="it was not written by a sciml run"):
        load(tmp_path / "x.ckpt")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1), st.integers(0, 255), st.booleans())
def test_damaged_files_are_one_sentence_or_intact(
    trained: Path, place: float, byte: int, cut: bool
) -> None:
    content = bytearray(trained.read_bytes())
    position = int(place * (len(content) - 1))
    content[position] = byte
    path = trained.with_name("damaged.ckpt")
    path.write_bytes(content[:position] if cut else content)
    sentence = ""
    try:
        load(path)
    except ValueError as error:
        sentence = str(error)
    assert "\n" not in sentence


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("new_format", [True, False])
def test_pickled_code_is_refused_and_not_run(
    new_format: bool, trained: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    content = read(trained) | {"extra": Malicious(mark)}
    torch.save(content, tmp_path / "x.ckpt", _use_new_zipfile_serialization=new_format)
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        load(tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        make_trainer(tmp_path).fit(make_task(), datamodule=ToyData(), ckpt_path=tmp_path / "x.ckpt")
    assert not mark.exists()


def test_wrong_setting_is_one_sentence(trained: Path) -> None:
    with pytest.raises(ValueError, match=r"edited.ckpt are wrong: --optim.name is 'adamx'"):
        load(edited(trained, optim={"name": "adamx"}))
    with pytest.raises(ValueError, match=r"sets 'gone' of ToyTask, which this version does not"):
        load(edited(trained, gone=1))


def test_weights_of_another_shape_are_one_sentence(trained: Path, tmp_path: Path) -> None:
    sentence = r"do not fit ToyTask as configured: 3 of another shape \(first: net.first.weight\)"
    with pytest.raises(ValueError, match=sentence):
        load(edited(trained, net={"class_path": "toy.ToyNet", "init_args": {"width": 9}}))
    for verb in ("fit", "test"):
        run = getattr(make_trainer(tmp_path), verb)
        with pytest.raises(ValueError, match=sentence):
            run(ToyTask(ToyNet(9)), datamodule=ToyData(), ckpt_path=trained)


def test_weights_alone_cannot_be_resumed(trained: Path, tmp_path: Path) -> None:
    content = read(trained)
    del content["optimizer_states"], content["lr_schedulers"]
    torch.save(content, tmp_path / "slim.ckpt")
    with pytest.raises(ValueError, match=r"holds weights only.*--model.init_from"):
        make_trainer(tmp_path).fit(
            make_task(), datamodule=ToyData(), ckpt_path=tmp_path / "slim.ckpt"
        )


# writing


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file grow past a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # a write past the limit is an error then, and does not end the process
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [0, 1000, 700_000, 1_199_000])
def test_full_disk_keeps_the_earlier_checkpoint_and_leaves_no_part(
    size: int, tmp_path: Path
) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"x": torch.zeros(3)}, path)
    sentence = f"checkpoint {path} could not be written .* file there is intact; free space or"
    with full_disk(size), pytest.raises(OSError, match=sentence):
        AtomicCheckpointIO().save_checkpoint({"x": torch.ones(300_000)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["x"], torch.zeros(3))
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_writing_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


def test_writing_makes_folders_and_every_run_writes_so(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, Keep(tmp_path / "deep/er"), max_epochs=1)
    trainer.fit(make_task(), datamodule=ToyData())
    assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)
    assert all(path.suffix == ".ckpt" for path in (tmp_path / "deep/er").iterdir())


# starting from weights


def test_table_tells_what_was_loaded(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = read(trained)
    state = content["state_dict"]
    state["net.extra"] = torch.zeros(1)
    del state["net.even"]
    state["net.last.weight"] = torch.zeros(1, 9)
    torch.save(content, trained)
    task = make_task()
    before = task.net.last.weight.clone()
    load_weights(task, trained)
    table = capsys.readouterr().err
    for row in ("loaded", "missing", "unexpected", "mismatched"):
        assert row in table
    cells = [[cell.strip() for cell in line.split("│")] for line in table.splitlines()]
    counts = {row[1]: row[2] for row in cells if len(row) == 5}
    assert counts["missing"] == counts["unexpected"] == counts["mismatched"] == "1"
    assert torch.equal(task.net.first.weight, state["net.first.weight"])
    assert torch.equal(task.net.last.weight, before)


def test_weights_of_another_network_are_refused_untouched(trained: Path) -> None:
    task = ToyTask(ToyNet(64))
    before = {name: value.clone() for name, value in task.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"only 1 of 257 parameters of ToyTask are in .*--model.net"
    ):
        load_weights(task, trained)
    assert not differences(dict(task.state_dict()), before)


def test_statistics_of_the_new_data_are_kept(trained: Path) -> None:
    content = read(trained)
    content["state_dict"]["net.calls"] = torch.tensor(77)
    torch.save(content, trained)
    kept, taken = make_task(), make_task()
    load_weights(kept, trained, keep=("net.calls",))
    load_weights(taken, trained)
    assert (int(kept.get_buffer("net.calls")), int(taken.get_buffer("net.calls"))) == (0, 77)


def test_migration_edits_all_copies_of_the_weights(trained: Path) -> None:
    content = read(trained)

    def rename(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name.replace("net.first", "net.start"): v for name, v in weights.items()}

    migrate(content, rename)
    for copy in (content["state_dict"], content["raw_state"], content["ema"]["average"]):
        assert "net.start.weight" in copy
        assert "net.first.weight" not in copy
