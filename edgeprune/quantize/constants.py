"""Put arrays into a graph and take them out."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.quantize.spec import QParams


def array(value: ir.Value) -> NDArray[Any]:
    """The numbers of a constant value."""
    assert value.const_value is not None
    numbers: NDArray[Any] = value.const_value.numpy()
    return numbers


def add_constant(graph: ir.Graph, name: str, numbers: NDArray[Any]) -> ir.Value:
    """A new initializer; its name must be free."""
    value = ir.val(name, const_value=ir.tensor(numbers, name=name))
    graph.register_initializer(value)
    return value


def put_constant(node: ir.Node, index: int, name: str, numbers: NDArray[Any]) -> None:
    """Let a node read these numbers there, as float32, in the shape of what it reads now where that has as many.

    A constant that others read too stays as it is, and the node gets one of its own, called `name`.
    """
    assert node.graph is not None
    old, stored = node.inputs[index] if index < len(node.inputs) else None, np.ascontiguousarray(numbers, np.float32)
    if old is not None and array(old).size == stored.size:
        stored = stored.reshape(array(old).shape)
    if old is not None and len(old.uses()) == 1:
        old.const_value, old.shape = ir.tensor(stored, name=old.name), ir.Shape(stored.shape)
        return
    node.resize_inputs(max(index + 1, len(node.inputs)))
    node.replace_input_with(index, add_constant(node.graph, name, stored))


def add_qparams(graph: ir.Graph, name: str, q: QParams) -> tuple[ir.Value, ir.Value]:
    """Scale and zero point of what is called `name`."""
    return add_constant(graph, f"{name}/scale", q.scale), add_constant(graph, f"{name}/zero_point", q.zero_point)
