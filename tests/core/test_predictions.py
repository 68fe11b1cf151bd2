import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import ToyData, ToyTask, make_task, make_trainer

from sciml.core.predictions import PredictionWriter


class ManyTask(ToyTask):
    """Predicts arrays of several types, shapes and lengths."""

    def predict_step(self, batch: Any, index: int) -> dict[str, Any]:
        x, number = batch[0], batch[2]
        return {
            "id": number,
            "y": self.net(x),
            "pairs/matrix": x.double()[:, :, None] * x.double()[:, None],
            "atoms": number.repeat_interleave(number),
            "half": x.bfloat16(),
            "flag": number > 4,
            "batch": torch.tensor(index),
        }


def predict(folder: Path, task: ToyTask, out: str | None = None, **given: Any) -> Any:
    trainer = make_trainer(folder, PredictionWriter(out))
    return trainer.predict(task, datamodule=ToyData(batch_size=5), **given)


def arrays(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_file_holds_what_the_batches_hold_in_their_order(tmp_path: Path) -> None:
    task = make_task(make=ManyTask)
    batches = predict(tmp_path, task)
    found = arrays(tmp_path / "predictions/predict.npz")
    assert sorted(found) == sorted(batches[0])
    for name, array in found.items():
        expected = torch.cat([torch.atleast_1d(batch[name]) for batch in batches])
        if name == "half":  # NumPy has no bfloat16
            expected = expected.float()
        np.testing.assert_array_equal(array, expected.numpy(), strict=True)
    assert [path.name for path in (tmp_path / "predictions").iterdir()] == ["predict.npz"]


def test_nothing_is_kept_in_memory_when_not_asked_for(tmp_path: Path) -> None:
    assert predict(tmp_path, make_task(), return_predictions=False) is None
    assert (tmp_path / "predictions/predict.npz").exists()


def test_named_file_is_written_where_asked(tmp_path: Path) -> None:
    predict(tmp_path, make_task(), str(tmp_path / "new/place.npz"))
    assert set(arrays(tmp_path / "new/place.npz")) == {"y", "id"}


def test_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "there.npz"
    path.write_text("mine")
    with pytest.raises(ValueError, match=r"there.npz exists; give another --predictions.out"):
        predict(tmp_path, make_task(), str(path))
    assert path.read_text() == "mine"


class BrokenTask(ToyTask):
    """Breaks down at the third batch."""

    error: BaseException = KeyError("broken")

    def predict_step(self, batch: Any, index: int) -> dict[str, Any]:
        if index == 2:
            raise self.error
        return {"y": batch[0]}


@pytest.mark.parametrize(
    ("error", "seen"), [(KeyError("x"), KeyError), (KeyboardInterrupt(), SystemExit)]
)
def test_interrupted_prediction_leaves_nothing(
    error: BaseException, seen: type[BaseException], tmp_path: Path
) -> None:
    task = make_task(make=BrokenTask)
    task.error = error  # type: ignore[attr-defined]
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(seen):
        predict(tmp_path, task)
    signal.signal(signal.SIGINT, handler)  # Lightning has switched it off
    assert not list((tmp_path / "predictions").iterdir())


class Returning(ToyTask):
    """Predicts what it is told to, batch by batch."""

    outputs: Sequence[Any] = ()

    def predict_step(self, batch: Any, index: int) -> Any:
        return self.outputs[index]


@pytest.mark.parametrize(
    ("outputs", "sentence"),
    [
        ([torch.zeros(2)] * 3, "Returning returned Tensor; predictions are written from a dict"),
        ([{"h": torch.zeros(2, 3)}, {"h": torch.zeros(2, 4)}], r"'h' as float32 \(2, 4\) after"),
        ([{"h": torch.zeros(2)}, {"h": torch.zeros(2).double()}], "'h' as float64"),
    ],
)
def test_what_makes_no_array_is_one_sentence(
    outputs: list[Any], sentence: str, tmp_path: Path
) -> None:
    task = make_task(make=Returning)
    task.outputs = outputs  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=sentence):
        predict(tmp_path, task, return_predictions=False)
    assert not list((tmp_path / "predictions").iterdir())


def test_second_prediction_in_a_process_starts_anew(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, PredictionWriter(str(tmp_path / "a.npz")))
    task = make_task()
    trainer.predict(task, datamodule=ToyData())
    (tmp_path / "a.npz").rename(tmp_path / "b.npz")
    trainer.predict(task, datamodule=ToyData())
    first, second = arrays(tmp_path / "a.npz"), arrays(tmp_path / "b.npz")
    np.testing.assert_array_equal(first["y"], second["y"])
