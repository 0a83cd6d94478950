"""Decide between which operators values travel as integers, and which values share one scale.

A runtime turns a layer into an integer kernel only if its input and its output are quantized, and everything between
two such layers that stays float costs a conversion each way. So integers spread from the layers that are quantized
over every operator that can carry them from one to the next.

A product of two activations (attention) is such an operator. Softmax and normalization are not, nor is the sum before a
softmax: so nothing that holds a mask's huge negative numbers is ever quantized.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.graph.layers import PRODUCTS, as_layer

ACTIVATIONS = frozenset({"Relu", "Clip"})
"""Quantizing behind them makes them part of it: both only cut the range off."""
VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
"""Operators that leave all values in memory as they are."""
MOVES = frozenset({"MaxPool", "Transpose", "Slice", "Pad"}) | VIEWS
"""Operators whose output holds values of their first input, or zero: they keep its scale."""
ARITHMETIC = frozenset({"Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "MatMul"})
"""Operators with an integer kernel of their own, whose output has its own scale."""


@dataclass(frozen=True)
class Placement:
    """The values that are quantized."""

    own: tuple[str, ...]
    """With a range of their own."""
    shared: dict[str, str]
    """With the scale of another, which stands in `own`: {value: that other}."""
    carriers: frozenset[str]
    """The nodes that read and give integers."""
    left: frozenset[str]
    """Those of `own` that are the first factor of a product of activations."""
    right: frozenset[str]
    """Those of `own` that are the second."""


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
    names = frozenset(str(node.name) for node in nodes)
    left, right = (frozenset(shared.get(name, name) for name in factors) for factors in _factors(nodes))
    return Placement(tuple(name for name in own if name not in shared), shared, names, left, right)


def _factors(nodes: Sequence[ir.Node]) -> tuple[list[str], list[str]]:
    products = [_data(node) for node in nodes if _is_product(node)]
    return [str(left.name) for left, _ in products], [str(right.name) for _, right in products]


def _carriers(model: ir.Model, weights: Set[str]) -> set[ir.Node]:
    """The layers of `weights`, and what lies between them: fed by carriers and read by at least one.

    A product of activations needs no such reader, and a view no such feeder if all its readers are: one computes in
    integers whatever comes next, the other costs nothing whatever came before.
    """
    layers = {node for node in model.graph if _multiplies_by(node, weights)}
    carriers = layers | {node for node in model.graph if _can_carry(node)}
    while lost := {node for node in carriers - layers if not _carries(node, carriers)}:
        carriers -= lost
    return carriers


def _multiplies_by(node: ir.Node, weights: Set[str]) -> bool:
    layer = as_layer(node)
    return layer is not None and layer.op in PRODUCTS and layer.weight in weights


def _carries(node: ir.Node, carriers: Set[ir.Node]) -> bool:
    readers = set(node.outputs[0].consumers())
    producers = [value.producer() for value in _data(node)]
    is_fed = all(producer is None or producer in carriers for producer in producers)
    if _is_product(node):  # a softmax has a range that is known and small: what it gives is quantized for a product
        return all(one is not None and (one in carriers or one.op_type == "Softmax") for one in producers)
    if node.op_type in VIEWS and not is_fed:
        return bool(readers) and readers <= carriers
    return is_fed and bool(carriers & readers)


def _can_carry(node: ir.Node) -> bool:
    if node.domain != "" or node.op_type not in MOVES | ARITHMETIC | ACTIVATIONS:
        return False
    if node.op_type == "Pad" and _pads_with_other_than_zero(node):
        return False
    if node.op_type == "MatMul" and not _is_product(node):  # a layer that the plan leaves in float
        return False
    floats = all(value.const_value is None and value.dtype == ir.DataType.FLOAT for value in _data(node))
    return floats and len(node.outputs) == 1


def _data(node: ir.Node) -> list[ir.Value]:
    """The activations a node computes with; its other inputs are weights, bounds or shapes."""
    if _is_bias(node):
        return [value for value in node.inputs if value is not None and value.const_value is None]
    of_two = node.op_type in {"Add", "Mul", "Concat"} or _is_product(node)
    return [value for value in node.inputs[: None if of_two else 1] if value is not None]


def _is_product(node: ir.Node) -> bool:
    """Whether it multiplies two activations."""
    return node.op_type == "MatMul" and all(value is not None and value.const_value is None for value in node.inputs)


def _is_bias(node: ir.Node) -> bool:
    """Whether it adds a constant, one number for each output channel, to what a MatMul alone computes for it."""
    constants = [value for value in node.inputs if value is not None and value.const_value is not None]
    if node.op_type != "Add" or len(constants) != 1 or constants[0].shape is None or len(constants[0].shape) != 1:
        return False
    (product,) = [value.producer() for value in node.inputs if value is not None and value not in constants]
    return product is not None and product.op_type == "MatMul" and len(product.outputs[0].uses()) == 1


def _is_cut_off(value: ir.Value, carriers: Set[ir.Node]) -> bool:
    """Whether all that reads a computed value is one activation or bias, behind which it is quantized instead."""
    producer = value.producer()
    if producer is None or producer not in carriers or producer.op_type in MOVES or value.is_graph_output():
        return False
    uses = value.consumers()
    return len(uses) == 1 and (uses[0].op_type in ACTIVATIONS or _is_bias(uses[0]))


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
