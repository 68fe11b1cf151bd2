"""Networks of every domain as programs that agree with them at three sizes."""

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from samples import small_net
from tiny_emulators import ATOMS, BASE, LATENTS, SPECIES, tiny_task, write_checkpoint

import sciml
from sciml.astrochem import AutoencoderTask, EmulatorTask, FlowMap
from sciml.cli import main
from sciml.core.export import export
from sciml.hip import HIPTask
from sciml.hip.data.batch import collate
from sciml.hip.data.record import Record
from sciml.hip.net import HessianHead, Radial

pytestmark = [pytest.mark.export, pytest.mark.integration]
HYDROGEN_OXYGEN = (1, 8)
EXAMPLE = Path(__file__).parents[2] / "examples" / "hip_onnx.py"


def small_task(**arguments: Any) -> HIPTask:
    """A network of every kind of layer, with as few operations as possible."""
    head = HessianHead(dim=4, num_basis=4, mlp=(8,))
    settings: dict[str, Any] = {"channels": 4, "max_ell": 2, "correlation": 2, "head": head}
    settings |= {"elements": HYDROGEN_OXYGEN, "radial": Radial(mlp=(8,)), **arguments}
    return HIPTask(small_net(**settings).float())


def largest_error(found: dict[str, Any]) -> float:
    assert set(found["errors"]) == {"traced", "smaller", "larger"}
    return max(error for errors in found["errors"].values() for error in errors.values())


@pytest.mark.slow
def test_energies_agree_as_a_library(tmp_path: Path) -> None:
    # Hessians take minutes to compile: `make acceptance` has them
    task = small_task(num_interactions=1)
    found = export(task, tmp_path / "program.pt2", "aoti", what="energy")
    assert largest_error(found) < 1e-5


@pytest.mark.slow
def test_hessians_agree(tmp_path: Path) -> None:
    found = export(small_task(), tmp_path / "program.pt2", "pt2")
    assert found["what"] == "hessian"
    assert [port["name"] for port in found["outputs"]] == [
        *("energy", "total_energy", "forces", "hessian")
    ]
    assert found["sizes"]["b"]["smaller"] == 1
    assert largest_error(found) < 1e-5


@pytest.mark.slow
def test_example_gets_hessians_with_onnx_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the export extra")
    task, program, molecule = small_task(), tmp_path / "net.onnx", tmp_path / "water.xyz"
    assert largest_error(export(task, program, "onnx")) < 1e-5
    positions = [[0.0, 0.0, 0.1], [0.0, 0.8, -0.5], [0.0, -0.8, -0.5]]  # Å
    ase.io.write(molecule, Atoms("OH2", positions))

    spec = importlib.util.spec_from_file_location("hip_onnx", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    found = example.evaluate(program, molecule)

    record = Record(np.array([8, 1, 1]), np.array(positions))
    for name, expected in task.eval()(collate([record], task.net.cutoff)).items():
        assert torch.allclose(torch.from_numpy(found[name]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_hessians_agree_in_float64(tmp_path: Path) -> None:
    task, path = small_task(num_interactions=1), tmp_path / "program.pt2"
    assert largest_error(export(task, path, "pt2", dtype="float64")) < 1e-12


@pytest.mark.slow
def test_forces_of_a_network_without_head_agree(tmp_path: Path) -> None:
    task = small_task(head=None, num_interactions=1)
    found = export(task, tmp_path / "program.pt2", "onnx")
    assert found["what"] == "forces"
    assert largest_error(found) < 1e-5


@pytest.mark.parametrize("format", ["pt2", "onnx", "torchscript"])
@pytest.mark.parametrize("what", ["step", "encoder", "decoder"])
def test_part_of_an_emulator_agrees(what: str, format: Any, tmp_path: Path) -> None:
    found = export(tiny_task(), tmp_path / "program.pt2", format, what=what)
    assert found["metadata"]["species"] == list(SPECIES)
    assert found["metadata"]["elements"] == ["H", "C", "O"]
    assert largest_error(found) < 1e-5


@pytest.mark.parametrize("format", ["pt2", "onnx", "torchscript"])
@pytest.mark.parametrize(
    ("arguments", "inputs"),
    [
        ({}, ["latent", "phys", "phys_before"]),
        ({"dt_input": True}, ["latent", "phys", "phys_before", "dt"]),
        ({"autoregressive": True}, ["latent", "phys"]),
    ],
    ids=["flow", "timed", "autoregressive"],
)
def test_step_takes_what_its_network_knows(
    arguments: dict[str, Any], inputs: list[str], format: Any, tmp_path: Path
) -> None:
    found = export(tiny_task(**arguments), tmp_path / "program.pt2", format, what="step")
    assert [port["name"] for port in found["inputs"]] == inputs
    assert largest_error(found) < 1e-5


@pytest.mark.parametrize("what", ["step", "full"])
def test_step_without_earlier_conditions_takes_its_length(what: str, tmp_path: Path) -> None:
    net = FlowMap(LATENTS, hidden=8, blocks=1, phys_delta=False, dt_input=True)
    task = EmulatorTask(net, tiny_task().autoencoder, list(SPECIES), ["H", "C", "O"])
    found = export(task, tmp_path / "program.pt2", "torchscript", what=what)
    assert [port["name"] for port in found["inputs"]][1:] == ["phys", "dt"]
    assert largest_error(found) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_full_step_conserves_elements_whatever_it_is_given(format: Any, tmp_path: Path) -> None:
    path = tmp_path / "program.pt2"
    assert largest_error(export(tiny_task(), path, format, what="full")) < 1e-5
    rng = np.random.default_rng(0)
    shape = (64, len(SPECIES))
    clouds = [  # in range, far out of it, of one species, with species that are not there
        BASE * 10 ** rng.normal(0, 0.3, shape),
        10 ** rng.uniform(-30, 0, shape),
        np.resize(np.eye(len(SPECIES)), shape),
        np.where(rng.random(shape) < 0.5, 0.0, 10 ** rng.uniform(-12, 0, shape)),
    ]
    abundance = np.concatenate(clouds).astype(np.float32)
    physics = (10 ** rng.uniform(-20, 20, (len(abundance), 4))).astype(np.float32)
    physics[:64] = np.array([1e4, 1.0, 5.0, 20.0]) * 10 ** rng.normal(0, 0.1, (64, 4))
    found = run(path, format, abundance, physics, physics)
    before, after = abundance.astype(np.float64) @ ATOMS, found.astype(np.float64) @ ATOMS
    there = before > 1e-15
    assert np.isfinite(found).all()
    assert (found > 0).all()
    assert np.abs(after / np.where(there, before, 1.0) - 1)[there].max() < 1e-6


def run(path: Path, format: str, *inputs: Any) -> Any:
    """The program in a file, as a user of the format runs it."""
    if format == "torchscript":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
            program = torch.jit.load(path)
        with torch.no_grad():
            return program(*map(torch.from_numpy, inputs)).numpy()
    runtime = pytest.importorskip("onnxruntime", reason="needs the export extra")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(path, options)
    names = [port.name for port in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


def test_autoencoder_is_exported_by_itself(tmp_path: Path) -> None:
    emulator = tiny_task()
    task = AutoencoderTask(emulator.autoencoder, list(SPECIES), ["H", "C", "O"])
    found = export(task, tmp_path / "program.pt2", "torchscript")
    assert found["what"] == "encoder"
    assert largest_error(found) < 1e-5


def test_command_exports_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, out = write_checkpoint(tiny_task(), tmp_path / "x.ckpt"), tmp_path / "step.pt2"
    main(["export", str(checkpoint), "--out", str(out), "--what", "step"])
    printed = capsys.readouterr().out
    assert "phys_before" in printed
    assert "cm⁻³, Habing, mag, K" in printed
    written = json.loads((tmp_path / "step.pt2.json").read_text())
    assert written["checkpoint"]["file"] == "x.ckpt"

    task = sciml.load(checkpoint)
    sample = task.export_inputs("step").tensors("larger")
    program = torch.export.load(out).module()
    assert torch.allclose(program(*sample), task.export_module("step")(*sample), atol=1e-6)


def test_command_names_the_parts_of_a_checkpoint(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tiny_task(), tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="--what is one of step, full, encoder, decoder"):
        main(["export", str(checkpoint), "--out", str(tmp_path / "x.pt2"), "--what", "hessian"])


def test_verb_is_listed_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    assert "write a trained network as a program" in capsys.readouterr().out
