"""Count multiply-accumulates from a graph's shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx_ir as ir


def macs(model: ir.Model) -> int:
    """Multiply-accumulates of one inference; free dimensions (the batch) count 1.

    Counted are Conv, ConvTranspose, Gemm and MatMul, where nearly all of a network's arithmetic is.
    """
    return sum(node_macs(node) for node in model.graph)


def node_macs(node: ir.Node) -> int:
    """Multiply-accumulates of one node, 0 for an operator that does not multiply matrices.

    Every output of a convolution sums over weight[1:] (input channels of its group, kernel); every input of a
    transposed one is multiplied by weight[1:] (output channels of its group, kernel).
    """
    if node.domain != "" or node.op_type not in {"Conv", "ConvTranspose", "Gemm", "MatMul"}:
        return 0
    left, right = _dims(node.inputs[0]), _dims(node.inputs[1])
    if node.op_type == "ConvTranspose":
        return math.prod(left) * math.prod(right[1:])
    outputs = math.prod(_dims(node.outputs[0]))
    if node.op_type == "Conv":
        return outputs * math.prod(right[1:])
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transA", 0) == 1
    return outputs * (left[0] if transposed else left[-1])


def _dims(value: ir.Value | None) -> tuple[int, ...]:
    shape: Iterable[object] = () if value is None or value.shape is None else value.shape
    return tuple(size if isinstance(size, int) else 1 for size in shape) or (1,)
