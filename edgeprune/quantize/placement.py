"""Decide between which operators values travel as integers, and which values share one scale.

A runtime turns a layer into an integer kernel only if its input and its output are quantized, and everything between
two such layers that stays float costs a conversion each way. So integers spread from the layers that are quantized
over every operator that can carry them from one to the next.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.graph.layers import as_layer

ACTIVATIONS = frozenset({"Relu", "Clip"})
"""Quantizing behind them makes them part of it: both only cut the range off."""
MOVES = frozenset({"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Pad"})
"""Operators whose output holds values of their first input, or zero: they keep its scale."""
ARITHMETIC = frozenset({"Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool"})
"""Operators with an integer kernel of their own, whose output has its own scale."""


@dataclass(frozen=True)
class Placement:
    """The values that are quantized."""

    own: tuple[str, ...]
    """With a range of their own."""
    shared: dict[str, str]
    """With the scale of another, which stands in `own`: {value: that other}."""


def place(model: ir.Model, weights: Set[str], *, add_absorbs: bool) -> Placement:
    """Where to quantize if the layers with these weight initializers are to run in integers.

    `add_absorbs`: the runtime computes a residual Add inside the convolution before it, whose result is then not
    rounded on its way there.
    """
    carriers = _carriers(model, weights)
    nodes = [node for node in model.graph if node in carriers]
    unrounded = {_summand(node) for node in nodes if node.op_type == "Add"} if add_absorbs else set()
    own: dict[str, None] = {}
    shared: dict[str, str] = {}
    for node in nodes:
        values = [value for value in _data(node) if not _is_cut_off(value, carriers)]
        if node.op_type == "Conv":
            values.append(_behind_activation(node, carriers))
        own |= {str(value.name): None for value in values if value not in unrounded}
        if node.op_type in MOVES:
            source = str(_data(node)[0].name)
            shared[str(node.outputs[0].name)] = shared.get(source, source)
    return Placement(tuple(name for name in own if name not in shared), shared)


def _carriers(model: ir.Model, weights: Set[str]) -> set[ir.Node]:
    """The layers of `weights`, and what lies between them: fed by carriers and read by at least one."""
    layers = {node for node in model.graph if (layer := as_layer(node)) and layer.weight in weights}
    carriers = layers | {node for node in model.graph if _can_carry(node)}
    while lost := {
        node
        for node in carriers - layers
        if not all(value.producer() is None or value.producer() in carriers for value in _data(node))
        or not carriers & set(node.outputs[0].consumers())
    }:
        carriers -= lost
    return carriers


def _can_carry(node: ir.Node) -> bool:
    if node.domain != "" or node.op_type not in MOVES | ARITHMETIC | ACTIVATIONS:
        return False
    if node.op_type == "Pad" and _pads_with_other_than_zero(node):
        return False
    floats = all(value.const_value is None and value.dtype == ir.DataType.FLOAT for value in _data(node))
    return floats and len(node.outputs) == 1


def _data(node: ir.Node) -> list[ir.Value]:
    """The activations a node computes with; its other inputs are weights, bounds or shapes."""
    count = None if node.op_type in {"Add", "Mul", "Concat"} else 1
    return [value for value in node.inputs[:count] if value is not None]


def _is_cut_off(value: ir.Value, carriers: Set[ir.Node]) -> bool:
    """Whether all that reads a computed value is one activation, behind which it is quantized instead."""
    producer = value.producer()
    if producer is None or producer not in carriers or producer.op_type in MOVES or value.is_graph_output():
        return False
    uses = value.consumers()
    return len(uses) == 1 and uses[0].op_type in ACTIVATIONS


def _behind_activation(node: ir.Node, carriers: Set[ir.Node]) -> ir.Value:
    value = node.outputs[0]
    return value.consumers()[0].outputs[0] if _is_cut_off(value, carriers) else value


def _summand(add: ir.Node) -> ir.Value | None:
    """The operand of an Add that a convolution computes for it alone; the later one where both are."""
    found = [
        value
        for value in _data(add)
        if (producer := value.producer()) is not None
        and producer.op_type == "Conv"
        and len(value.uses()) == 1
        and not value.is_graph_output()
    ]
    return found[-1] if found else None


def _pads_with_other_than_zero(pad: ir.Node) -> bool:
    fill = pad.inputs[2].const_value if len(pad.inputs) > 2 and pad.inputs[2] is not None else None
    return fill is not None and bool(np.any(fill.numpy()))
