"""The scripts in ``examples/`` run as they are."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sciml import load
from sciml.hip import HIPTask

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script: str, folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *words],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.integration
@pytest.mark.qm
@pytest.mark.slow
def test_training_in_python(tmp_path: Path) -> None:
    small = ("--configurations", "2", "--workers", "1", "--epochs", "1")
    out = run("train_in_python.py", tmp_path, *small)
    checkpoint = Path(re.search(r"^checkpoint (.*)$", out, re.MULTILINE)[1])
    assert checkpoint.is_relative_to(tmp_path)
    assert isinstance(load(checkpoint), HIPTask)
    assert "energy of water -" in out


@pytest.mark.integration
@pytest.mark.slow
def test_pipeline_of_astrochem_ends_with_a_program_and_is_not_repeated(tmp_path: Path) -> None:
    short = (
        "--trainer.max_epochs=1 --trainer.check_val_every_n_epoch=1 "
        "--trainer.enable_progress_bar=false --model.net.latent_dim=4 "
    )
    settings = {
        "SCIML": f"{sys.executable} -m sciml",
        "TRACERS": "6",
        "STEPS": "5",
        "WORKERS": "1",
        "PARTS": "step",
        "SPEED": "false",
        "AUTOENCODER_FLAGS": short + "--data.samples_per_epoch=16 --data.batch_size=8",
        "EMULATOR_FLAGS": short
        + "--model.net.hidden=8 --data.window_schedule=[[0,3]] --data.windows.batches_per_epoch=2",
    }
    pipeline(tmp_path, settings)
    work = tmp_path / "astrochem_pipeline"
    described = json.loads((work / "step.pt2.json").read_text())
    assert described["inputs"][0]["shape"] == ["b", 4]
    assert (work / "evaluation" / "summary.json").exists()
    assert "persistence" in (work / "evaluation" / "grav_steps.csv").read_text()
    # every stage is there: nothing is started, and the command does not even exist
    idle = settings | {"SCIML": "no-such-command"}
    assert "step.pt2" in pipeline(tmp_path, idle)
    other = call_pipeline(tmp_path, idle | {"EMULATOR_FLAGS": short})
    assert other.returncode == 2
    assert "emulator was begun with -c astrochem/flowmap.yaml" in other.stderr


@pytest.mark.integration
def test_pipeline_of_astrochem_makes_no_tracers_under_a_name_that_was_given(tmp_path: Path) -> None:
    done = call_pipeline(tmp_path, {"DATA": "mine.h5", "SCIML": "no-such-command"})
    assert done.returncode == 2
    assert done.stderr == "no file mine.h5; check DATA, or leave it out to make tracers\n"
    assert not list(tmp_path.iterdir())


def pipeline(folder: Path, settings: dict[str, str]) -> str:
    done = call_pipeline(folder, settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


def call_pipeline(folder: Path, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(EXAMPLES / "astrochem_pipeline.sh")],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | settings,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_example_explains_itself(script: Path, tmp_path: Path) -> None:
    assert "usage:" in run(script.name, tmp_path, "--help")
