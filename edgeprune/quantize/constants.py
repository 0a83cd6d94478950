"""Put arrays into a graph and take them out."""

from __future__ import annotations

from typing import Any

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


def add_qparams(graph: ir.Graph, name: str, q: QParams) -> tuple[ir.Value, ir.Value]:
    """Scale and zero point of what is called `name`."""
    return add_constant(graph, f"{name}/scale", q.scale), add_constant(graph, f"{name}/zero_point", q.zero_point)
