"""The layers of a graph that carry weights: what is pruned, quantized and reported."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.graph.cost import node_macs

PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})
"""Layers that multiply their input by one weight."""
RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
"""Layers with two weights, one for the input and one for the hidden state."""


@dataclass(frozen=True)
class WeightedLayer:
    """A Conv, Gemm, MatMul, LSTM, GRU or RNN whose weights are constant, or a Gather from a constant table."""

    name: str
    """The node's."""
    op: str
    weight: str
    """The weight initializer's name; it is the torch parameter's where the model came from torch."""
    weight_shape: tuple[int, ...]
    input: str
    """What the weight is applied to; for a Gather, the integers that choose rows."""
    output: str
    macs: int
    axis: int
    """The weight's dimension that counts output channels."""
    numbers: int
    """In all its weights."""
    groups: int = 1
    recurrence: str | None = None
    """The name of the weight that multiplies the hidden state, in a recurrent layer."""

    @property
    def depthwise(self) -> bool:
        """Whether each group has a single input channel."""
        return self.groups > 1 and self.weight_shape[1] == 1

    @property
    def weights(self) -> tuple[str, ...]:
        """Every weight of the layer; the first is the one it is known by."""
        return (self.weight,) if self.recurrence is None else (self.weight, self.recurrence)


def weighted_layers(model: ir.Model) -> tuple[WeightedLayer, ...]:
    """All of them, in the order they are computed."""
    return tuple(layer for node in model.graph if (layer := as_layer(node)) is not None)


def as_layer(node: ir.Node) -> WeightedLayer | None:
    """The node as a weighted layer; None where it is none."""
    if node.domain != "" or node.op_type not in PRODUCTS | RECURRENT | {"Gather"}:
        return None
    weight, data = (node.inputs[0], node.inputs[1]) if node.op_type == "Gather" else (node.inputs[1], node.inputs[0])
    if data is None or weight is None or data.const_value is not None or weight.const_value is None:
        return None
    shape = tuple(weight.const_value.shape.numpy())
    if node.op_type == "MatMul" and len(shape) != 2:
        return None
    if node.op_type == "Gather" and not _is_embedding(node, weight):
        return None
    recurrence = node.inputs[2] if node.op_type in RECURRENT else None
    if node.op_type in RECURRENT and (recurrence is None or recurrence.const_value is None):
        return None
    return WeightedLayer(
        name=str(node.name),
        op=node.op_type,
        weight=str(weight.name),
        weight_shape=shape,
        input=str(data.name),
        output=str(node.outputs[0].name),
        macs=node_macs(node),
        axis=_output_axis(node),
        numbers=sum(found.size for value in (weight, recurrence) if value and (found := value.const_value) is not None),
        groups=node.attributes.get_int("group", 1),
        recurrence=None if recurrence is None else str(recurrence.name),
    )


def _is_embedding(gather: ir.Node, table: ir.Value) -> bool:
    """Whether it picks rows of a table of real numbers, and which ones the inputs say."""
    rank = 0 if table.shape is None else len(table.shape)
    real = table.dtype is not None and table.dtype.is_floating_point()
    rows = rank == 2 and gather.attributes.get_int("axis", 0) in (0, -2)
    return rows and real and _depends_on_inputs(gather.inputs[1])


def _depends_on_inputs(value: ir.Value | None) -> bool:
    """Whether a value is computed from numbers that are given, not just from their shape: that is folded at load."""
    seen: set[ir.Value] = set()
    left = [value]
    while left:
        value = left.pop()
        if value is None or value in seen or value.const_value is not None:
            continue
        seen.add(value)
        node = value.producer()
        if node is None:
            return True
        if node.op_type not in {"Shape", "Size"}:
            left += node.inputs
    return False


def _output_axis(node: ir.Node) -> int:
    """Recurrent weights are [directions, gates x hidden, inputs], tables [rows, channels]."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1):
        return 0
    return 1
