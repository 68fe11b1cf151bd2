"""Write a task's network as a program, and prove that the file does the same."""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

import sciml
from sciml.core.export.formats import FORMATS, Request, quiet
from sciml.core.export.ports import SIZES, ExportInputs, Port
from sciml.core.files import write_json

if TYPE_CHECKING:
    from sciml.core.task import Task

MIN_OPSET = 18
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def export(
    task: "Task",
    out: str | Path,
    format: Literal["pt2", "onnx", "aoti", "torchscript"] = "pt2",
    *,
    what: str | None = None,
    dtype: Literal["float32", "float64"] = "float32",
    opset: int = MIN_OPSET,
    checkpoint: str | Path | None = None,
) -> dict[str, Any]:
    """Write one part of a network as a program that runs without this package.

    The written file is run at three sizes and compared with the network; a file that differs is
    not left behind. Beside it stands its description, ``<out>.json``.

    Args:
        task: Loaded with `sciml.load`, which takes the averaged weights; it is cast to ``dtype``
            and stays in evaluation mode on the CPU.
        out: File to write; it must not exist. Those of pt2 and aoti end with .pt2.
        format: ``pt2`` for `torch.export.load`, ``onnx`` for runtimes of ONNX, ``aoti`` for
            libtorch in C++, ``torchscript`` where the task offers it.
        what: Part of the network, by default the first one the task names.
        dtype: Type of the network's numbers.
        opset: Version of the operators of ONNX, at least 18.
        checkpoint: File the task came from, for the description.

    Returns:
        The description.

    Raises:
        ValueError: If the task, the format or the computer cannot, or if the program differs.
        FileExistsError: If the output is there already.
    """
    path = Path(out)
    what = _chosen_part(task, what)
    _check(task, path, format, opset)
    kind = FORMATS[format]
    kind.check()
    _cast(task, DTYPES[dtype])
    example = task.export_inputs(what)
    described = _describe(task, what, example) | {
        "format": format,
        "dtype": dtype,
        **({"opset": opset} if format == "onnx" else {}),
        "checkpoint": None if checkpoint is None else _digest(Path(checkpoint)),
        "versions": {"sciml": sciml.__version__} | {name: version(name) for name in kind.packages},
    }
    request = Request(task.export_module(what).eval(), example, described, opset)
    path.parent.mkdir(parents=True, exist_ok=True)
    # in the same folder, so that a link brings it to its place
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        part = folder / f"program{kind.suffix}"
        with quiet():
            kind.write(request, part)
            errors = _compare(part, format, example)
        tolerance = max(example.tolerance[dtype], kind.accuracy)
        _check_errors(errors, tolerance, f"{format} of {what}")
        described |= {"errors": errors, "tolerance": tolerance}
        described["program"] = _digest(part) | {"file": path.name}
        _place_both(part, described, path)
    finally:
        shutil.rmtree(folder)
    return described


def _place_both(part: Path, described: Mapping[str, Any], path: Path) -> None:
    """Give a program its name, and its description before it: no program is ever without one."""
    draft = part.with_name("description.json")
    write_json(draft, described)
    _place(draft, _description(path))
    try:
        _place(part, path)
    except FileExistsError:
        _description(path).unlink()
        raise


def _place(part: Path, path: Path) -> None:
    """Give a file its name unless another one got it during the export."""
    try:
        path.hardlink_to(part)  # a rename would replace the other one
    except FileExistsError:
        raise FileExistsError(_taken(path)) from None
    except OSError:  # some file systems have no links
        if path.exists():
            raise FileExistsError(_taken(path)) from None
        part.rename(path)


def _taken(path: Path) -> str:
    return f"{path} exists already; give --out another name or move it away"


def _cast(task: "Task", dtype: torch.dtype) -> None:
    """Bring the network to the CPU; constants that are exact for a purpose stay so if they can."""
    task.to("cpu").eval()
    if any(parameter.dtype != dtype for parameter in task.parameters()):
        task.to(dtype)


def _description(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _chosen_part(task: "Task", what: str | None) -> str:
    parts = task.export_parts()
    if not parts:
        raise ValueError(f"{type(task).__name__} has no part that can be exported")
    if what is not None and what not in parts:
        raise ValueError(
            f"{type(task).__name__} has no part '{what}' to export; --what is one of "
            f"{', '.join(parts)}"
        )
    return parts[0] if what is None else what


def _check(task: "Task", path: Path, format: str, opset: int) -> None:
    formats = task.export_formats()
    if format not in formats:
        raise ValueError(
            f"{type(task).__name__} cannot be exported as {format}; --format is one of "
            f"{', '.join(formats)}"
        )
    suffix = FORMATS[format].suffix
    if suffix == ".pt2" != path.suffix:
        raise ValueError(
            f"{path} has to end with .pt2, since torch opens no other file as {format}"
        )
    if opset < MIN_OPSET:
        raise ValueError(f"opset {opset} is too old; --opset is {MIN_OPSET} or more")
    for file in (path, _description(path)):
        if file.exists():
            raise FileExistsError(_taken(file))


def _compare(path: Path, format: str, example: ExportInputs) -> dict[str, dict[str, float]]:
    run = FORMATS[format].open(path)
    return {size: example.errors(size, run(example.tensors(size))) for size in SIZES}


def _check_errors(errors: Mapping[str, Mapping[str, float]], tolerance: float, what: str) -> None:
    wrong = [
        f"{name} by {error:.1e} at the {size} size"
        for size, found in errors.items()
        for name, error in found.items()
        if not error <= tolerance
    ]
    if wrong:
        raise ValueError(
            f"the {what} differs from the network by more than {tolerance:.0e} of the largest "
            f"number ({', '.join(wrong)}); nothing was written"
        )


def _describe(task: "Task", what: str, example: ExportInputs) -> dict[str, Any]:
    sample = example.samples["traced"]
    sizes = {size: example.letters(size) for size in SIZES}
    return {
        "what": what,
        "task": f"{type(task).__module__}.{type(task).__name__}",
        "inputs": [_port(port, sample.inputs[port.name]) for port in example.inputs],
        "outputs": [_port(port, sample.expected[port.name]) for port in example.outputs],
        "sizes": {
            letter: {size: sizes[size][letter] for size in SIZES} for letter in sizes["traced"]
        },
        "metadata": dict(example.metadata),
    }


def _port(port: Port, tensor: Tensor) -> dict[str, Any]:
    return {
        "name": port.name,
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(port.shape),
        "unit": port.unit,
        "meaning": port.meaning,
    }


def _digest(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest}
