"""Let a graph that was exported for one sample take any number of them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from edgeprune.errors import ModelError

BATCH = "batch"


def free_batch(model: ir.Model) -> ir.Model:
    """The model with the leading dimension of its inputs and outputs free, and called `batch`; no other is.

    [1, 3, 32, 32]   becomes   [batch, 3, 32, 32];   Reshape(x, [1, 64])   becomes   Reshape(x, [0, 64])

    Where some inputs lead with a free dimension, these are the batched ones; else all that lead with the same size, but
    for lists [k], unless there are only such. The other inputs are the same for all samples, and stay.
    Raises ModelError where no input has a dimension for the batch, or an output does not lead with it. A graph may hold
    its batch in other places too: whether the result still computes sample by sample what the model computes is for
    the caller to try.
    """
    freed = model.clone()
    graph = freed.graph
    leading = _batched(list(graph.inputs))
    sizes = {_sizes(value)[0] for value in leading}
    for node in graph:
        if node.op_type == "Reshape":
            _free_reshape(graph, node, {size for size in sizes if isinstance(size, int)})
    for value in graph.inputs:
        named = [_renamed(value, axis, sizes) for axis in range(len(_sizes(value)))]
        value.shape = ir.Shape([BATCH, *named[1:]] if value in leading else named)
    told = {output: _sizes(output) for node in graph for output in node.outputs if output.shape is not None}
    for value in [*told, *(value for inner in graph.subgraphs() for value in _values_in(inner))]:
        value.shape = None
    inferred = common.ShapeInferencePass()(freed).model
    for value, given in told.items():
        if value.shape is None:  # behind an If or a Loop, of which inference need not know what it gives
            value.shape = ir.Shape([BATCH if size in sizes else size for size in given[:1]] + given[1:])
    for value in inferred.graph.outputs:
        _check_output(inferred.graph, value)
    return inferred


def _values_in(graph: ir.Graph) -> list[ir.Value]:
    """All that has dimensions."""
    return [value for value in (*graph.inputs, *(output for node in graph for output in node.outputs)) if _sizes(value)]


def batched_inputs(model: ir.Model) -> tuple[str, ...]:
    """The inputs that take a row a sample, as `free_batch` named their leading dimension; the others take one value."""
    return tuple(str(value.name) for value in model.graph.inputs if _leads(value))


def _batched(inputs: list[ir.Value]) -> list[ir.Value]:
    """The inputs that lead with the batch."""
    ranked = [value for value in inputs if _sizes(value)]
    behind = {size for value in ranked for size in _sizes(value)[1:] if isinstance(size, str)}
    for value in ranked:
        if len(_sizes(value)) == 1 and _sizes(value)[0] in behind:
            raise ModelError(
                f"input '{value.name}' leads with '{_sizes(value)[0]}', not with the batch: export it with that first"
            )
    free = [value for value in ranked if not isinstance(_sizes(value)[0], int)]
    several = [value for value in ranked if len(_sizes(value)) > 1] or ranked
    if not several:
        raise ModelError("no input has a dimension for the batch: export the model with one in front")
    return free or [value for value in several if _sizes(value)[0] == _sizes(several[0])[0]]


def _sizes(value: ir.Value) -> list[int | str | None]:
    return [size if isinstance(size, int) else size.value for size in value.shape or ()]


def _renamed(value: ir.Value, axis: int, batch: set[int | str | None]) -> int | str:
    """The size, or its name, or another where that is missing or the batch's."""
    size = _sizes(value)[axis]
    if isinstance(size, int) or (size is not None and size not in batch | {BATCH}):
        return size
    return f"{value.name}_{axis}"


def _free_reshape(graph: ir.Graph, node: ir.Node, batch: set[int]) -> None:
    """Let a Reshape that asks for the fixed batch keep the leading dimension it is given, or infer it."""
    data, shape = node.inputs[0], node.inputs[1]
    tensor = None if shape is None else ir.convenience.get_const_tensor(shape)
    wanted = [] if tensor is None else tensor.numpy().tolist()
    if data is None or not wanted or wanted[0] not in batch or node.attributes.get_int("allowzero", 0) == 1:
        return
    if _sizes(data)[:1] == wanted[:1]:
        wanted[0] = 0
    elif -1 not in wanted:
        wanted[0] = -1
    name = f"{node.name or node.outputs[0].name}/shape"
    free = ir.val(name, const_value=ir.tensor(np.array(wanted, np.int64), name=name))
    graph.register_initializer(free)
    node.replace_input_with(1, free)
    if shape is not None and not shape.uses() and shape.name in graph.initializers:
        del graph.initializers[str(shape.name)]


def _check_output(graph: ir.Graph, output: ir.Value) -> None:
    if output.shape is None or (_sizes(output) and not isinstance(_sizes(output)[0], int)):
        return
    culprit = next(
        (
            node
            for node in graph
            if any(value is not None and _leads(value) for value in node.inputs)
            and any(value.shape is not None and isinstance((_sizes(value) or [1])[0], int) for value in node.outputs)
        ),
        output.producer(),
    )
    where = f": node '{culprit.name}' ({culprit.op_type}) mixes or fixes it" if culprit is not None else ""
    raise ModelError(
        f"output '{output.name}' {[str(size) for size in _sizes(output)]} does not lead with the batch{where}; export"
        " the model with a free first dimension that every output keeps"
    )


def _leads(value: ir.Value) -> bool:
    return _sizes(value)[:1] == [BATCH]
