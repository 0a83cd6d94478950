"""Count multiply-accumulates from a graph's shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx_ir as ir


def macs(model: ir.Model) -> int:
    """Multiply-accumulates of one inference; free dimensions (the batch) count 1.

    Counted are Conv, ConvTranspose, Gemm, MatMul and the recurrent layers, where nearly all of a network's arithmetic
    is.
    """
    return sum(node_macs(node) for node in model.graph)


def node_macs(node: ir.Node) -> int:
    """Multiply-accumulates of one node, 0 for an operator that does not multiply matrices.

    Every output of a convolution sums over weight[1:] (input channels of its group, kernel); every input of a
    transposed one is multiplied by weight[1:] (output channels of its group, kernel). A recurrent layer multiplies
    both of its weights once in every step.
    """
    count = {
        "Conv": _convolution,
        "ConvTranspose": _transposed_convolution,
        "Gemm": _product,
        "MatMul": _product,
        "LSTM": _recurrence,
        "DynamicQuantizeLSTM": _recurrence,
        "GRU": _recurrence,
        "RNN": _recurrence,
    }.get(node.op_type)
    known = node.domain == "" or node.op_type == "DynamicQuantizeLSTM"
    return 0 if count is None or not known else count(node)


def _convolution(node: ir.Node) -> int:
    return math.prod(_dims(node.outputs[0])) * math.prod(_dims(node.inputs[1])[1:])


def _transposed_convolution(node: ir.Node) -> int:
    return math.prod(_dims(node.inputs[0])) * math.prod(_dims(node.inputs[1])[1:])


def _product(node: ir.Node) -> int:
    left = _dims(node.inputs[0])
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transA", 0) == 1
    return math.prod(_dims(node.outputs[0])) * (left[0] if transposed else left[-1])


def _recurrence(node: ir.Node) -> int:
    """X is [steps, batch, inputs], or the first two swapped; both weights are [directions, gates x hidden, _]."""
    steps_and_samples = math.prod(_dims(node.inputs[0])[:-1])
    return steps_and_samples * (math.prod(_dims(node.inputs[1])) + math.prod(_dims(node.inputs[2])))


def _dims(value: ir.Value | None) -> tuple[int, ...]:
    shape: Iterable[object] = () if value is None or value.shape is None else value.shape
    return tuple(size if isinstance(size, int) else 1 for size in shape) or (1,)
