"""``sciml export``: a trained network as a program."""

import time
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table


def export(
    checkpoint: Path,
    *,
    out: Path,
    format: Literal["pt2", "onnx", "aoti", "torchscript"] = "pt2",
    what: str | None = None,
    dtype: Literal["float32", "float64"] = "float32",
    opset: int = 18,
) -> dict[str, Any]:
    """Write a trained network as a program that runs without this package, and check it.

    The program is run at three sizes and compared with the network before it gets its name; its
    description is written beside it, as <out>.json.

    Args:
        checkpoint: File of a training run; its averaged weights are taken.
        out: File to write; it must not exist. Those of pt2 and aoti end with .pt2.
        format: pt2 for torch.export.load, onnx for ONNX runtimes, aoti for C++ with libtorch,
            torchscript where the domain offers it.
        what: Part of the network: hessian, forces or energy of hip; step, full, encoder or decoder
            of astrochem. By default the first that the checkpoint has.
        dtype: Type of the network's numbers.
        opset: Version of the ONNX operators, at least 18.

    Returns:
        The description, a part of which is also printed.
    """
    from sciml.core.checkpoint import load
    from sciml.core.export import export as write

    start = time.perf_counter()
    found = write(
        load(checkpoint),
        out,
        format,
        what=what,
        dtype=dtype,
        opset=opset,
        checkpoint=checkpoint,
    )
    Console().print(_table(found, str(out), time.perf_counter() - start))
    return found


def _table(found: dict[str, Any], out: str, seconds: float) -> Table:
    mebibytes = found["program"]["bytes"] / 2**20
    title = f"{out}: {found['what']} as {found['format']}, {mebibytes:.1f} MiB, {seconds:.0f} s"
    table = Table(title=title, title_justify="left")
    for column in ("tensor", "type", "shape", "unit", "largest relative error"):
        table.add_column(column)
    sizes = found["errors"].values()
    worst = {port["name"]: max(of[port["name"]] for of in sizes) for port in found["outputs"]}
    for port in [*found["inputs"], *found["outputs"]]:
        shape = ", ".join(map(str, port["shape"]))
        error = f"{worst[port['name']]:.1e}" if port in found["outputs"] else ""
        table.add_row(port["name"], port["dtype"], f"({shape})", port["unit"], error)
    return table
