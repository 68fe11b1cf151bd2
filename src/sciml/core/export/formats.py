"""Files that hold a program, and how each is written and run again."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from sciml.core.export.capture import capture
from sciml.core.export.ports import ExportInputs
from sciml.core.extras import need, require

ONNX = ("onnx", "onnxscript", "onnxruntime")
Run = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Request:
    """What is to be written.

    Args:
        module: On tensors, in evaluation mode.
        example: Its tensors.
        metadata: Plain values for formats that can hold them.
        opset: Version of the operators of ONNX.
    """

    module: nn.Module
    example: ExportInputs
    metadata: Mapping[str, Any]
    opset: int

    def capture(self) -> ExportedProgram:
        """The graph of the module."""
        return capture(self.module, self.example)


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Args:
        suffix: End of its name.
        check: Raises an error if this computer cannot write it.
        write: Writes a request to a place.
        open: Gives the program in a file as a function of tensors.
        packages: Distributions whose versions matter to the file.
        accuracy: Relative error that it has by itself.
    """

    suffix: str
    check: Callable[[], None]
    write: Callable[[Request, Path], None]
    open: Callable[[Path], Run]
    packages: tuple[str, ...] = ("torch",)
    accuracy: float = 0.0


def _nothing() -> None:
    """Torch alone is enough."""


def _write_pt2(request: Request, path: Path) -> None:
    text = json.dumps(request.metadata)
    torch.export.save(request.capture(), path, extra_files={"sciml.json": text})


def _open_pt2(path: Path) -> Run:
    module = torch.export.load(path).module()

    def run(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return _as_tuple(module(*inputs))

    return run


def _check_onnx() -> None:
    for package in ONNX:
        require(package, extra="export")


def _write_onnx(request: Request, path: Path) -> None:
    example = request.example
    program = torch.onnx.export(
        request.capture(),
        (),
        dynamo=True,
        opset_version=request.opset,
        input_names=[port.name for port in example.inputs],
        output_names=[port.name for port in example.outputs],
        # runtimes do it in seconds; onnxscript takes minutes for some thousand nodes
        optimize=False,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # traces of the calls that made it, with paths
    program.model.metadata_props["sciml"] = json.dumps(request.metadata)
    program.save(path)


def _open_onnx(path: Path) -> Run:
    runtime = need("onnxruntime", extra="export")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # it warns of constants that it does not fold
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except runtime.capi.onnxruntime_pybind11_state.NotImplemented as error:
        reason = str(error).rpartition(" : ")[2]
        raise ValueError(
            f"ONNX Runtime cannot run this program ({reason}); use --dtype float32 or another "
            "--format"
        ) from error
    names = [port.name for port in session.get_inputs()]

    def run(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        arrays = [tensor.numpy() for tensor in inputs]
        found = session.run(None, dict(zip(names, arrays, strict=True)))
        return tuple(torch.from_numpy(array) for array in found)

    return run


def _check_aoti() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ValueError(
            "AOTInductor needs a C++ compiler and there is none; install g++, set CXX to one, or "
            "choose another --format"
        ) from error


def _write_aoti(request: Request, path: Path) -> None:
    from torch._inductor import aoti_compile_and_package

    # what a program in C can read without knowing JSON: names in their order, axes, types by name
    stored = {"sciml": json.dumps(request.metadata)}
    for role in ("input", "output"):
        ports = request.metadata[f"{role}s"]
        stored[f"{role}s"] = ",".join(port["name"] for port in ports)
        for port in ports:
            stored[f"{role}.{port['name']}"] = ",".join(map(str, port["shape"]))
            stored[f"{role}.{port['name']}.dtype"] = port["dtype"]
    with torch.no_grad():
        aoti_compile_and_package(
            request.capture(),
            package_path=str(path),
            inductor_configs={"aot_inductor.metadata": stored},
        )


def _open_aoti(path: Path) -> Run:
    from torch._inductor import aoti_load_package

    program = aoti_load_package(str(path))
    return lambda inputs: _as_tuple(program(*inputs))


def _write_torchscript(request: Request, path: Path) -> None:
    program = torch.jit.script(request.module)
    program.save(path, _extra_files={"sciml.json": json.dumps(request.metadata)})


def _open_torchscript(path: Path) -> Run:
    program = torch.jit.load(path)

    def run(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return _as_tuple(program(*inputs))

    return run


FORMATS = {
    "pt2": Format(".pt2", _nothing, _write_pt2, _open_pt2),
    # the exporter writes constants in float32, and layer normalisation computes in it
    "onnx": Format(".onnx", _check_onnx, _write_onnx, _open_onnx, ("torch", *ONNX), accuracy=1e-6),
    "aoti": Format(".pt2", _check_aoti, _write_aoti, _open_aoti),
    "torchscript": Format(".pt", _nothing, _write_torchscript, _open_torchscript),
}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' remarks on themselves and on missing packages off the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # also where inductor is imported; TorchScript is for programs that read nothing else
            warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _as_tuple(found: Any) -> tuple[Tensor, ...]:
    return (found,) if isinstance(found, Tensor) else tuple(found)
