"""Store integer weights in as few bits as they need.

A runtime folds what stands here between initializer and DequantizeLinear when it opens the file, so 4 bits lie on the
disk and the kernel for 8 bits runs: seen with ONNX Runtime 1.23 and 1.31 and OpenVINO 2026.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.quantize.constants import add_constant

OPSET = 21
"""The first with 4-bit integers."""


def add_integers(
    graph: ir.Graph, name: str, integers: NDArray[Any], *, four: bool = False, wide: Sequence[int] = (), axis: int = 0
) -> ir.Value:
    """Store `integers` as the initializer `name`; return the int8 value that they are.

    int8 name
    int4 name -> Cast                                                  `four`
    int4 name -> Cast -> Concat(_, int8 name/wide) -> Gather           `four`, but not for the channels `wide`

    `wide` counts along `axis`; all others must be within -8 to 7.
    """
    if not four:
        return add_constant(graph, name, integers)
    others = np.setdiff1d(np.arange(integers.shape[axis]), wide)
    packed = integers.take(others, axis).astype(ml_dtypes.int4)
    cast = ir.node("Cast", [add_constant(graph, name, packed)], {"to": int(ir.DataType.INT8)}, name=f"{name}/cast")
    nodes = [cast]
    if len(wide):
        kept = add_constant(graph, f"{name}/wide", np.ascontiguousarray(integers.take(wide, axis)))
        joined = ir.node("Concat", [cast.outputs[0], kept], {"axis": axis}, name=f"{name}/join")
        places = np.argsort(np.concatenate([others, wide])).astype(np.int32)
        order = add_constant(graph, f"{name}/order", places)
        nodes += [joined, ir.node("Gather", [joined.outputs[0], order], {"axis": axis}, name=f"{name}/reorder")]
    graph.insert_before(graph[0], nodes)
    for node, shape in zip(nodes, (packed.shape, integers.shape, integers.shape), strict=False):
        result = node.outputs[0]
        result.name, result.dtype, result.shape = f"{node.name}/int8", ir.DataType.INT8, ir.Shape(shape)
    return nodes[-1].outputs[0]
