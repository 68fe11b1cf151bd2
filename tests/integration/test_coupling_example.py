"""The C and Fortran callers of an exported step, built with the libraries of torch's wheel."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sciml.astrochem import EmulatorTask, FlowMap, PcaResidualAutoencoder
from sciml.core.export import export

EXAMPLE = Path(__file__).parents[2] / "examples" / "astrochem_coupling"
CELLS, STEPS, LATENTS = 10_000, 5, 6
SPECIES = ["C", "C+", "CO", "E-", "H", "H2", "H2O", "O"]

pytestmark = [pytest.mark.slow, pytest.mark.export, pytest.mark.integration]


@pytest.fixture(scope="module")
def task() -> EmulatorTask:
    torch.manual_seed(0)
    net = FlowMap(LATENTS, hidden=16, blocks=1, dt_input=True)
    with torch.no_grad():
        for parameter in net.parameters():  # the last layer starts at zero
            parameter.add_(0.1 * torch.randn_like(parameter))
    net.dt_ref.fill_(3e3)
    net.physics_mean.copy_(torch.tensor([4.0, 0.0, 1.0, 1.3]))
    autoencoder = PcaResidualAutoencoder(len(SPECIES), LATENTS, encoder_dim=8, decoder_dims=(8, 8))
    return EmulatorTask(net, autoencoder, SPECIES, ["H", "C", "O"]).eval()


@pytest.fixture(scope="module")
def program(task: EmulatorTask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    path = tmp_path_factory.mktemp("step") / "step.pt2"
    export(task, path, "aoti", what="step")
    return path


def conditions(step: int) -> NDArray[np.float32]:
    depth = np.arange(CELLS) / CELLS + 0.1 * step
    columns = [
        10 ** (3 + 2 * depth),
        10 ** (-0.5 * depth),
        10 ** (0.5 + 0.5 * depth),
        10 + 20 / (1 + depth),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def expected(task: EmulatorTask) -> NDArray[np.float32]:
    """Latents that the network itself gives for the cells of the example."""
    cell, number = np.arange(1, CELLS + 1)[:, None], np.arange(1, LATENTS + 1)
    latent = torch.from_numpy(np.sin(np.pi * cell * number / CELLS).astype(np.float32))
    before = torch.from_numpy(conditions(0))
    with torch.no_grad():
        for step in range(STEPS):
            present = torch.from_numpy(conditions(step))
            latent = task.net.step(latent, present, torch.full((CELLS,), 1e4), before)
            before = present
    return latent.numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("build")


def build(target: str, name: str, folder: Path) -> Path:
    """The program of a target of the Makefile, made once."""
    for tool in ("make", "gfortran" if target == "fortran" else "gcc"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    words = ["make", "-C", str(EXAMPLE), target, f"BUILD={folder}", f"PYTHON={sys.executable}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / name


@pytest.mark.parametrize(
    ("target", "name"), [("all", "advance"), ("fortran", "advance_fortran")], ids=["c", "fortran"]
)
def test_caller_gets_what_the_network_gives(
    target: str, name: str, task: EmulatorTask, program: Path, folder: Path, tmp_path: Path
) -> None:
    caller = build(target, name, folder)
    out = tmp_path / "latents.bin"
    done = subprocess.run([caller, program, out], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("10000 cells, 5 steps")
    found = np.fromfile(out, dtype=np.float32).reshape(CELLS, LATENTS)
    wanted = expected(task)
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


def with_metadata(program: Path, out: Path, change: Callable[[dict[str, str]], object]) -> Path:
    """The program with something else in what it says about itself."""
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(out, "w") as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename.endswith("_metadata.json"):
                about = json.loads(content)
                change(about)
                content = json.dumps(about).encode()
            new.writestr(item, content)
    return out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda about: about.pop("output.latent_next"), "this is no exported step"),
        (
            lambda about: about.update({"input.phys.dtype": "float64"}),
            "it does not take phys in float32; export it again",
        ),
    ],
    ids=["decoder", "float64"],
)
def test_caller_refuses_other_programs(
    change: Callable[[dict[str, str]], object],
    words: str,
    program: Path,
    folder: Path,
    tmp_path: Path,
) -> None:
    caller = build("all", "advance", folder)
    other = with_metadata(program, tmp_path / "other.pt2", change)
    done = subprocess.run([caller, other], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"advance: {other}: {words}\n"


def test_caller_says_what_is_wrong_with_its_file(folder: Path) -> None:
    caller = build("all", "advance", folder)
    done = subprocess.run([caller, "none.pt2"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("advance: none.pt2: ")
    assert len(done.stderr.splitlines()) == 1
