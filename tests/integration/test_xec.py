"""Whole runs of xec through the command line: generate, train, test, predict."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from root_files import events, write_file
from runs import STATE, every_step, last_metrics, quiet

import sciml
from sciml.cli import main
from sciml.xec.data import RootStream
from sciml.xec.generate.dataset import Plan, generate_dataset
from sciml.xec.generate.settings import Beam, Detector, Settings

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::UserWarning"),  # Lightning's advice on so small a run
]
CONFIGS = sorted(
    path.stem for path in (Path(__file__).parents[2] / "configs" / "xec").glob("*.yaml")
)
TRAIN, VAL = 40, 17  # events


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("data")
    settings = Settings(beam=Beam(), detector=Detector())
    for name, count, seed in (("train", TRAIN, 1), ("val", VAL, 2)):
        plan = Plan(events=count, files=1, seed=seed)
        generate_dataset(folder / name, settings, plan, runner="serial")
    return folder / "train" / "events_0000.root", folder / "val" / "events_0000.root"


def flags(config: str, files: tuple[Path, Path], folder: Path) -> list[str]:
    """A few steps of a small network, everything in one folder."""
    return [
        "-c", "configs/trainer/cpu.yaml", "-c", f"configs/xec/{config}.yaml",
        f"--data.train={files[0]}", f"--data.val={files[1]}", "--data.batch_size=8",
        f"--data.reading.cache={folder.parent / 'cache'}", "--data.chunksize=8",
        "--model.net.width=32", "--model.net.layers=2", "--model.net.channels=[8,8,8]",
        "--model.net.blocks=[1,1]", "--model.net.hidden=16", "--model.optim.warmup=2",
        "--trainer.check_val_every_n_epoch=1", "--trainer.max_epochs=2", *quiet(folder),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def regressor(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of two epochs that keeps the checkpoint of every step."""
    folder = tmp_path_factory.mktemp("regressor") / "run"
    train(folder, files)
    return folder


def train(folder: Path, files: tuple[Path, Path], *more: str) -> None:
    words = flags("regressor", files, folder)
    main(["fit", *words[:4], *every_step(folder), *words[4:], *more])


@pytest.mark.parametrize("config", CONFIGS)
def test_every_experiment_trains_and_is_tested_from_its_checkpoint_alone(
    config: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    main(["fit", *flags(config, files, tmp_path / "run")])
    own = last_metrics(tmp_path / "run")
    assert own["val/score"] > 0
    path = next((tmp_path / "run").rglob("last.ckpt"))
    main(["test", "--ckpt_path", str(path), f"--data.test={files[1]}",
          *quiet(tmp_path / "test")])  # fmt: skip
    found = json.loads(next((tmp_path / "test").rglob("summary.json")).read_text())["metrics"]
    for name, value in own.items():
        if name.startswith("val/") and "coverage" not in name and "pull" not in name:
            assert found[name.replace("val/", "test/")] == pytest.approx(value, rel=1e-5, abs=1e-6)


def test_validation_repeats_what_the_checkpoint_says(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sciml", "fit", *flags("regressor", files, tmp_path / "run")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "conventional" in done.stdout
    path = next((tmp_path / "run").rglob("last.ckpt"))
    main(["validate", "--ckpt_path", str(path), *quiet(tmp_path / "again")])
    own, again = last_metrics(tmp_path / "run"), last_metrics(tmp_path / "again")
    for name in [name for name in again if name.startswith("val/")]:
        assert again[name] == pytest.approx(own[name], rel=1e-6, abs=1e-9), name


def test_a_run_resumes_bit_for_bit_inside_an_epoch(
    files: tuple[Path, Path], regressor: Path, tmp_path: Path
) -> None:
    place = regressor / "checkpoints" / "step=3.ckpt"
    train(tmp_path / "run", files, f"--ckpt_path={place}", "--data.num_workers=1")
    names = [folder / "checkpoints" / "last.ckpt" for folder in (regressor, tmp_path / "run")]
    left, right = (torch.load(name, weights_only=True) for name in names)
    for name in STATE[:4]:
        assert same(left[name], right[name]), name


def same(left: object, right: object) -> bool:
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and torch.equal(left, right)
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and left.keys() == right.keys()
            and all(same(left[key], right[key]) for key in left)
        )
    if isinstance(left, list | tuple):
        return isinstance(right, list | tuple) and all(map(same, left, right))
    return left == right


def test_predictions_are_those_of_the_loaded_task(
    files: tuple[Path, Path], regressor: Path, tmp_path: Path
) -> None:
    path = regressor / "checkpoints" / "last.ckpt"
    main(["predict", "--ckpt_path", str(path), f"--data.predict={files[1]}",
          f"--predictions.out={tmp_path / 'p.npz'}"])  # fmt: skip
    task = sciml.load(path).eval()
    data = RootStream(predict=str(files[1]), batch_size=VAL)
    (batch,) = list(data.loader("predict"))
    with torch.no_grad():
        expected = task.columns(batch)
    with np.load(tmp_path / "p.npz") as found:
        assert found["event"].tolist() == batch["event"].tolist()
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-4)


def test_a_missing_truth_is_one_sentence(files: tuple[Path, Path], tmp_path: Path) -> None:
    names = ("npho", "relative_time", "time_min_used", "run", "event")
    branches = {name: values for name, values in events(9).items() if name in names}
    bare = write_file(tmp_path / "bare.root", branches)
    words = flags("regressor", (bare, files[1]), tmp_path / "run")
    with pytest.raises(ValueError, match="relative_time") as caught:
        main(["fit", *words])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--model.losses={uvwFI: {kind: cosine, weight: -1}}", "weight of at least 0"),
        ("--model.losses={mass: {kind: l1}}", "has 'mass'"),
        ("--model.net.nll_tasks=[energy]", None),
    ],
)
def test_losses_fit_the_network(
    flag: str, message: str | None, files: tuple[Path, Path], tmp_path: Path
) -> None:
    words = [*flags("regressor", files, tmp_path / "run"), "--trainer.max_steps=1", flag]
    if message is None:
        main(["fit", *words])
        return
    done = subprocess.run(
        [sys.executable, "-m", "sciml", "fit", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
