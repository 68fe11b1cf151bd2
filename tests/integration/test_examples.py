"""The scripts in ``examples/`` run as they are."""

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


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_example_explains_itself(script: Path, tmp_path: Path) -> None:
    assert "usage:" in run(script.name, tmp_path, "--help")
