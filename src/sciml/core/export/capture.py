"""From a module to a graph of tensor operations with free sizes."""

from typing import Any

import torch
from torch import nn
from torch._decomp import get_decompositions
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from sciml.core.export.ports import ExportInputs

_aten = torch.ops.aten
DECOMPOSED = [  # what other programs do not know
    _aten.silu_backward,
    _aten.gelu_backward,
    _aten.tanh_backward,
    _aten.sigmoid_backward,
    _aten.embedding_dense_backward,
    _aten.native_layer_norm_backward,
    _aten.norm,
    _aten.linalg_vector_norm,
    _aten.slice_backward,
    _aten.select_backward,
]


def capture(module: nn.Module, example: ExportInputs) -> ExportedProgram:
    """Trace a module with the sample of the size traced.

    Where the module takes derivatives, its operations are recorded first, those of the backward
    pass with them; the graph then has none left to take.

    Args:
        module: On tensors, in evaluation mode.
        example: Its tensors.

    Raises:
        ValueError: If the samples do not fit the ports, or sizes coincide that are to be free.
    """
    letters = example.letters("traced")
    inputs = example.tensors("traced")
    if example.derivatives:
        _check_distinct(example, letters)
        module = _with_derivatives(module, inputs)
    sizes = {letter: Dim(letter, min=1) for letter in letters}
    shapes: tuple[dict[int, Any], ...] = tuple(
        {axis: sizes[name] for axis, name in enumerate(port.shape) if isinstance(name, str)}
        for port in example.inputs
    )
    with torch.no_grad():
        program = torch.export.export(module, inputs, dynamic_shapes=shapes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it holds the paths of this computer
    return program


def _with_derivatives(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> GraphModule:
    from torch._functorch.compile_utils import fx_graph_cse
    from torch.fx.experimental.proxy_tensor import make_fx

    trace = make_fx(
        module,
        tracing_mode="symbolic",
        _allow_non_fake_inputs=True,
        decomposition_table=get_decompositions(DECOMPOSED),  # type: ignore[arg-type]
    )
    graph: GraphModule = trace(*inputs)
    graph.graph.eliminate_dead_code()
    return GraphModule(graph, fx_graph_cse(graph.graph))


def _check_distinct(example: ExportInputs, letters: dict[str, int]) -> None:
    """Equal sizes would be taken for the same one."""
    fixed = {axis for port in example.inputs for axis in port.shape if isinstance(axis, int)}
    sizes = [*letters.values(), *fixed]
    if len(set(sizes)) < len(sizes) or min(sizes) < 2:
        raise ValueError(
            f"the traced sample has the sizes {letters} beside {sorted(fixed)}; "
            "they have to differ from each other, and be 2 at least"
        )
