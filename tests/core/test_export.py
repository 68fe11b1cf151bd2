"""Programs of a toy task: what is written, what is refused, what is proved."""

import importlib.util
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy import ToyNet, ToyTask

from sciml.core.export import ExportInputs, Port, Sample, export

pytestmark = pytest.mark.export


class Spring(nn.Module):
    """Energy of points tied to the origin, and its derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        positions = positions.detach().requires_grad_()
        with torch.enable_grad():
            energy = (self.stiffness * positions**2).sum(1) / 2
            (gradient,) = torch.autograd.grad(energy.sum(), positions)
        return energy.detach(), -gradient.detach()


class ProgramTask(ToyTask):
    """The toy task with parts: ``net``, and ``spring``, which takes derivatives."""

    def __init__(self) -> None:
        super().__init__(ToyNet())
        self.spring = Spring()

    def export_parts(self) -> tuple[str, ...]:
        return ("net", "spring")

    def export_formats(self) -> tuple[str, ...]:
        return ("pt2", "onnx", "aoti", "torchscript")

    def export_inputs(self, what: str) -> ExportInputs:
        columns = 2 if what == "net" else 3
        samples = {}
        for size, rows in {"traced": 5, "smaller": 1, "larger": 70}.items():
            generator = torch.Generator().manual_seed(rows)
            x = torch.randn(rows, columns, generator=generator).to(self.spring.stiffness.dtype)
            if what == "net":
                expected = {"y": self.net(x).detach()}
            else:
                stiffness = self.spring.stiffness.detach()
                expected = {"energy": x**2 @ stiffness / 2, "forces": -stiffness * x}
            samples[size] = Sample({"x": x}, expected)
        outputs = (Port("y", ("n",), "m", "height"),)
        if what == "spring":
            outputs = (Port("energy", ("n",), "J", ""), Port("forces", ("n", 3), "N", ""))
        return ExportInputs(
            inputs=(Port("x", ("n", columns), "m", "place"),),
            outputs=outputs,
            samples=samples,
            metadata={"colour": "red"},
            derivatives=what == "spring",
        )

    def export_module(self, what: str) -> nn.Module:
        return self.net if what == "net" else self.spring


class Changed(ProgramTask):
    """A task that tells something else about its tensors."""

    change: Callable[[ExportInputs], ExportInputs]

    def export_inputs(self, what: str) -> ExportInputs:
        return self.change(super().export_inputs(what))


def changed(change: Callable[[ExportInputs], ExportInputs]) -> Changed:
    """The task with another description of its tensors."""
    task = Changed()
    task.change = change
    return task


def with_sample(size: str, sample: Sample) -> Callable[[ExportInputs], ExportInputs]:
    """Replace the sample of one size."""
    return lambda example: replace(example, samples={**example.samples, size: sample})


@pytest.fixture
def task() -> ProgramTask:
    torch.manual_seed(0)
    return ProgramTask()


@pytest.mark.parametrize("format", ["pt2", "torchscript", "onnx"])
def test_program_agrees_at_three_sizes(task: ProgramTask, tmp_path: Path, format: Any) -> None:
    found = export(task, tmp_path / "program.pt2", format)
    assert set(found["errors"]) == {"traced", "smaller", "larger"}
    assert max(errors["y"] for errors in found["errors"].values()) < 1e-6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["program.pt2", "program.pt2.json"]


@pytest.mark.parametrize("format", ["pt2", "onnx"])
def test_derivatives_are_part_of_the_program(
    task: ProgramTask, tmp_path: Path, format: Any
) -> None:
    found = export(task, tmp_path / "program.pt2", format, what="spring")
    assert max(errors["forces"] for errors in found["errors"].values()) < 1e-6


@pytest.mark.slow
def test_aoti_program_agrees_at_three_sizes(task: ProgramTask, tmp_path: Path) -> None:
    path = tmp_path / "program.pt2"
    found = export(task, path, "aoti", what="spring")
    assert max(errors["forces"] for errors in found["errors"].values()) < 1e-6
    with zipfile.ZipFile(path) as package:
        (name,) = (one for one in package.namelist() if one.endswith("wrapper_metadata.json"))
        stored = json.loads(package.read(name))
    assert (stored["outputs"], stored["output.forces"]) == ("energy,forces", "n,3")
    assert (stored["input.x"], stored["input.x.dtype"]) == ("n,3", "float32")


@pytest.mark.parametrize(("format", "error"), [("pt2", 1e-14), ("onnx", 1e-6)])
def test_float64_program_agrees(
    task: ProgramTask, tmp_path: Path, format: Any, error: float
) -> None:
    task.net.first = nn.Sequential(nn.Linear(2, 8), nn.LayerNorm(8))  # type: ignore[assignment]
    found = export(task, tmp_path / "program.pt2", format, dtype="float64")
    assert found["inputs"][0]["dtype"] == "float64"
    assert max(errors["y"] for errors in found["errors"].values()) < error


def test_operator_that_onnx_runtime_lacks_is_named(task: ProgramTask, tmp_path: Path) -> None:
    task.net.first = nn.Sequential(nn.Linear(2, 8), nn.GELU())  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"ONNX Runtime cannot run this program \(.*Erf"):
        export(task, tmp_path / "program.pt2", "onnx", dtype="float64")
    assert not list(tmp_path.iterdir())


def test_description_says_what_a_caller_needs(task: ProgramTask, tmp_path: Path) -> None:
    checkpoint = tmp_path / "x.ckpt"
    checkpoint.write_bytes(b"abc")
    found = export(task, tmp_path / "x.pt2", checkpoint=checkpoint)
    written = json.loads((tmp_path / "x.pt2.json").read_text())
    assert written == found
    assert written["inputs"] == [
        {"name": "x", "dtype": "float32", "shape": ["n", 2], "unit": "m", "meaning": "place"}
    ]
    assert written["sizes"] == {"n": {"traced": 5, "smaller": 1, "larger": 70}}
    assert written["metadata"] == {"colour": "red"}
    # SHA-256 of "abc", FIPS 180-2
    assert written["checkpoint"]["sha256"].startswith("ba7816bf8f01cfea414140de5dae2223")
    assert written["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert written["program"]["bytes"] == (tmp_path / "x.pt2").stat().st_size


def test_onnx_file_describes_itself_and_names_no_folder(task: ProgramTask, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the export extra")
    export(task, tmp_path / "x.onnx", "onnx", opset=19)
    model = onnx.load(tmp_path / "x.onnx")
    stored = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(stored["sciml"])["metadata"] == {"colour": "red"}
    assert model.opset_import[0].version == 19
    assert [port.name for port in model.graph.input] == ["x"]
    assert [port.name for port in model.graph.output] == ["y"]
    assert str(Path(__file__).parents[2]).encode() not in (tmp_path / "x.onnx").read_bytes()


def test_pt2_file_names_no_folder(task: ProgramTask, tmp_path: Path) -> None:
    export(task, tmp_path / "x.pt2")
    with zipfile.ZipFile(tmp_path / "x.pt2") as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert str(Path(__file__).parents[2]).encode() not in content


def test_program_that_differs_leaves_no_file(tmp_path: Path) -> None:
    def wrong(example: ExportInputs) -> ExportInputs:
        larger = example.samples["larger"]
        sample = Sample(larger.inputs, {"y": 1.001 * larger.expected["y"]})
        return with_sample("larger", sample)(example)

    with pytest.raises(ValueError, match=r"differs from the network.*y by 1\.0e-03 at the larger"):
        export(changed(wrong), tmp_path / "x.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("output", "error"),
    [
        (torch.zeros(5), 1.0),
        (torch.ones(5), 0.0),
        (torch.ones(4), float("inf")),
        (torch.ones(5, dtype=torch.float64), float("inf")),
        (torch.tensor([1.0, 1.0, 1.0, 1.0, torch.nan]), float("inf")),
    ],
    ids=["other", "same", "shape", "dtype", "nan"],
)
def test_error_is_relative_to_the_largest_number(
    task: ProgramTask, output: Tensor, error: float
) -> None:
    sample = Sample({"x": torch.zeros(5, 2)}, {"y": torch.ones(5)})
    example = with_sample("traced", sample)(task.export_inputs("net"))
    assert example.errors("traced", (output,)) == {"y": error}


def test_outputs_are_compared_in_the_measure_of_their_task(task: ProgramTask) -> None:
    sample = Sample({"x": torch.zeros(2, 2)}, {"y": torch.tensor([1e-4, 1e4])})
    example = with_sample("traced", sample)(task.export_inputs("net"))
    example = replace(example, measures={"y": torch.log10})
    # (log 1e-3 - log 1e-4) / log 1e4 = 1/4
    assert example.errors("traced", (torch.tensor([1e-3, 1e4]),))["y"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"what": "nets"}, "no part 'nets' to export; --what is one of net, spring"),
        ({"opset": 17}, "opset 17 is too old"),
    ],
)
def test_wrong_argument_is_refused(
    task: ProgramTask, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        export(task, tmp_path / "x", "onnx", **arguments)


@pytest.mark.parametrize("format", ["pt2", "aoti"])
def test_name_that_torch_does_not_open_is_refused(
    task: ProgramTask, tmp_path: Path, format: Any
) -> None:
    with pytest.raises(ValueError, match=f"has to end with .pt2, since .* as {format}"):
        export(task, tmp_path / "x.bin", format)


def test_task_without_parts_is_refused(tmp_path: Path) -> None:
    task = ToyTask(ToyNet())
    with pytest.raises(ValueError, match="ToyTask has no part that can be exported"):
        export(task, tmp_path / "x.pt2")
    with pytest.raises(ValueError, match="ToyTask does not say what tensors 'net' takes"):
        task.export_inputs("net")
    with pytest.raises(ValueError, match="ToyTask gives no module for 'net'"):
        task.export_module("net")
    assert "torchscript" not in task.export_formats()


def test_format_a_task_does_not_offer_is_refused(
    task: ProgramTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProgramTask, "export_formats", ToyTask.export_formats)
    with pytest.raises(ValueError, match="as torchscript; --format is one of pt2, onnx, aoti"):
        export(task, tmp_path / "x", "torchscript")


@pytest.mark.parametrize("name", ["x.pt2", "x.pt2.json"])
def test_existing_output_is_refused(task: ProgramTask, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match="exists already"):
        export(task, tmp_path / "x.pt2")
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["x.pt2", "x.pt2.json"])
@pytest.mark.parametrize("links", [True, False])
def test_output_that_appears_meanwhile_is_left_alone(
    task: ProgramTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, links: bool
) -> None:
    def none(self: Path, target: Path) -> None:
        raise PermissionError

    def compare(*_: object) -> dict[str, dict[str, float]]:
        (tmp_path / name).write_text("mine")
        return {}

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", none)
    monkeypatch.setattr("sciml.core.export.program._compare", compare)
    with pytest.raises(FileExistsError, match=rf"{name} exists already; give --out another"):
        export(task, tmp_path / "x.pt2")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_missing_onnx_is_named_with_its_extra(
    task: ProgramTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"onnx is missing: pip install -e '\.\[export\]'"):
        export(task, tmp_path / "x", "onnx")


def test_missing_compiler_is_named(
    task: ProgramTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import cpp_builder, exc

    def none() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    with pytest.raises(ValueError, match=r"AOTInductor needs a C\+\+ compiler"):
        export(task, tmp_path / "x.pt2", "aoti")


def test_sample_that_is_not_what_its_port_says_is_refused(tmp_path: Path) -> None:
    wrong = changed(with_sample("traced", Sample({"x": torch.zeros(5, 3)}, {"y": torch.zeros(5)})))
    with pytest.raises(ValueError, match=r"traced sample of x has the shape \(5, 3\)"):
        export(wrong, tmp_path / "x.pt2")


def test_sizes_that_would_be_taken_for_one_are_refused(tmp_path: Path) -> None:
    sample = Sample({"x": torch.zeros(3, 3)}, {"energy": torch.zeros(3), "forces": torch.zeros(3)})
    with pytest.raises(ValueError, match="they have to differ from each other"):
        export(changed(with_sample("traced", sample)), tmp_path / "x.pt2", what="spring")
