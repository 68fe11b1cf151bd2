"""Whole runs of astrochem through the command line: generate, train, test, predict."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import STATE, every_step, last_metrics, quiet
from tracers import SPECIES, sample_table

import sciml
from sciml.astrochem.data.writer import write_groups
from sciml.cli import main

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::UserWarning"),  # Lightning's advice on so small a run
]
CONFIGS = {
    path.stem: path.read_text()
    for path in sorted((Path(__file__).parents[2] / "configs" / "astrochem").glob("*.yaml"))
}
AUTOENCODERS = [name for name, text in CONFIGS.items() if "class_path: AutoencoderTask" in text]
EMULATORS = [name for name, text in CONFIGS.items() if "class_path: EmulatorTask" in text]


@pytest.fixture(scope="module")
def tracers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "tracers.h5"
    table = sample_table([9, 8, 9, 9, 9, 9, 8, 9, 9, 9, 9, 9])
    write_groups(path, {"train": table}, dt_yr=1e4, generator="test", seed=0)
    return path


def flags(config: str, tracers: Path, folder: Path) -> list[str]:
    """A few steps of an experiment on tiny tracers, everything in one folder."""
    words = [
        "-c", "configs/trainer/cpu.yaml", "-c", f"configs/astrochem/{config}.yaml",
        f"--data.path={tracers}", f"--data.store.artefacts={folder.parent / 'artefacts'}",
        "--data.batch_size=8", "--trainer.check_val_every_n_epoch=1", *quiet(folder),
    ]  # fmt: skip
    if config in AUTOENCODERS:
        return [*words, "--model.net.latent_dim=3", "--data.samples_per_epoch=24"]
    return [
        *words, "--model.net.latent_dim=3", "--model.net.hidden=8",
        "--data.window_schedule=[[0,2],[1,4]]", "--data.windows.rows_per_batch=16",
        "--data.windows.batches_per_epoch=3",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def autoencoder(tracers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a short run through the real entry point."""
    folder = tmp_path_factory.mktemp("autoencoder") / "run"
    words = [*flags("autoencoder", tracers, folder), "--trainer.max_epochs=2"]
    done = subprocess.run(
        [sys.executable, "-m", "sciml", "fit", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "principal components" in done.stdout
    return next(folder.rglob("last.ckpt"))


@pytest.fixture(scope="module")
def emulator(tracers: Path, autoencoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of two epochs that keeps the checkpoint of every step."""
    folder = tmp_path_factory.mktemp("emulator") / "run"
    train(folder, tracers, autoencoder)
    return folder


def train(folder: Path, tracers: Path, autoencoder: Path, *more: str) -> None:
    words = [*flags("flowmap", tracers, folder), f"--model.autoencoder={autoencoder}"]
    place = words.index(f"--data.path={tracers}")
    words[place:place] = every_step(folder)
    main(["fit", *words, "--trainer.max_epochs=2", *more])


@pytest.mark.parametrize("config", AUTOENCODERS)
def test_every_autoencoder_trains_and_is_tested_from_its_checkpoint_alone(
    config: str, tracers: Path, tmp_path: Path
) -> None:
    main(["fit", *flags(config, tracers, tmp_path / "fit"), "--trainer.max_epochs=1"])
    last = next((tmp_path / "fit").rglob("last.ckpt"))
    main(["test", "--ckpt_path", str(last), *quiet(tmp_path / "test")])
    assert last_metrics(tmp_path / "test")["test/mae_dex"] > 0
    table = (tmp_path / "test" / "run" / "one" / "test" / "species.csv").read_text()
    assert [line.split(",")[0] for line in table.splitlines()[1:]] == list(SPECIES)


@pytest.mark.parametrize("config", EMULATORS)
def test_every_emulator_trains_and_is_tested_from_its_checkpoint_alone(
    config: str, tracers: Path, autoencoder: Path, tmp_path: Path
) -> None:
    words = [*flags(config, tracers, tmp_path / "fit"), f"--model.autoencoder={autoencoder}"]
    main(["fit", *words, "--trainer.max_epochs=1"])
    last = next((tmp_path / "fit").rglob("last.ckpt"))
    main(["test", "--ckpt_path", str(last), *quiet(tmp_path / "test")])
    found = last_metrics(tmp_path / "test")
    assert found["test/rollout_mae_dex"] > 0
    assert found["test/knn_mae_dex"] > 0
    # in float32 the scaled truth is known to 3e-6 of an abundance
    assert found["test/rollout_elem_rel_max"] < 1e-4


def test_epochs_are_written_as_lines(emulator: Path) -> None:
    lines = (emulator / "run" / "one" / "epochs.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [line["epoch"] for line in found] == [0, 1]
    assert all(line["val/rollout_mae_dex"] > 0 and line["lr"] > 0 for line in found)


def test_a_run_resumes_bit_for_bit_within_the_window_schedule(
    emulator: Path, tracers: Path, autoencoder: Path, tmp_path: Path
) -> None:
    expected = torch.load(emulator / "checkpoints" / "last.ckpt", weights_only=True)
    for step in (2, 4):  # in the middle of an epoch of windows of two rows, and of four
        start = emulator / "checkpoints" / f"step={step}.ckpt"
        folder = tmp_path / f"from_{step}" / "run"
        folder.mkdir(parents=True)
        train(folder, tracers, autoencoder, f"--ckpt_path={start}")
        found = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        for key in STATE[:5]:
            assert same(found[key], expected[key]), f"{key} after {step}"


def test_dropout_counters_survive_a_resume(tracers: Path, tmp_path: Path) -> None:
    def run(name: str, *more: str) -> dict[str, object]:
        words = flags("reference_ae", tracers, tmp_path / name)
        main(["fit", *words, *more])
        last = next((tmp_path / name).rglob("last.ckpt"))
        return torch.load(last, weights_only=True)

    whole = run("whole", "--trainer.max_epochs=4")
    run("half", "--trainer.max_epochs=2")
    half = next((tmp_path / "half").rglob("last.ckpt"))
    resumed = run("resumed", "--trainer.max_epochs=4", f"--ckpt_path={half}")
    key = next(name for name in whole["callbacks"] if "AdaptiveDropout" in name)
    assert same(whole["callbacks"][key], resumed["callbacks"][key])
    assert same(whole["state_dict"], resumed["state_dict"])


def same(left: object, right: object) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def test_predictions_are_those_of_the_loaded_task(emulator: Path, tmp_path: Path) -> None:
    last = emulator / "checkpoints" / "last.ckpt"
    out = tmp_path / "out.npz"
    main(["predict", "--ckpt_path", str(last), f"--predictions.out={out}", *quiet(tmp_path)])
    with np.load(out) as file:
        predicted = {name: file[name] for name in file.files}
    assert predicted["abundance"].shape == (len(predicted["step"]), len(SPECIES))
    assert set(predicted["step"]) == set(range(1, 9))
    assert sciml.load(last).species == list(SPECIES)


def test_another_chemistry_is_one_sentence(emulator: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    table = sample_table([9, 9, 9, 9])
    table.species = ("N", *table.species[1:])
    write_groups(other, {"train": table}, dt_yr=1e4, generator="test", seed=0)
    done = subprocess.run(
        [sys.executable, "-m", "sciml", "test", "--ckpt_path", emulator / "checkpoints/last.ckpt",
         f"--data.path={other}", f"--data.store.artefacts={tmp_path}", *quiet(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.startswith("sciml: ")]
    assert (done.returncode, len(lines)) == (2, 1), done.stderr
    assert "another chemistry" in lines[0]
