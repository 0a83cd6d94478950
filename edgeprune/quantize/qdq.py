"""Spell a quantization plan as QuantizeLinear/DequantizeLinear pairs, in the dialect a runtime turns into integers.

One plan and one set of ranges go in; all in which the dialects differ stands in their Flavour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.errors import ConfigError
from edgeprune.graph.layers import PRODUCTS, WeightedLayer, as_layer
from edgeprune.quantize.affine import per_channel, quantize
from edgeprune.quantize.constants import add_constant, add_qparams, array
from edgeprune.quantize.embedding import quantize_embedding
from edgeprune.quantize.flavour import Flavour, fitted
from edgeprune.quantize.placement import Placement, place
from edgeprune.quantize.plan import check
from edgeprune.quantize.recurrent import quantize_lstm
from edgeprune.quantize.spec import QParams, QuantPlan, Range


def emit(model: ir.Model, plan: QuantPlan, ranges: Mapping[str, Range], flavour: Flavour) -> ir.Model:
    """Return `model`, as `graph.cleanup.clean` left it, with the plan's int8 layers between Q/DQ pairs.

    Nodes keep their names, and so do weights, which become int8; layers that the flavour has in float only stay so
    (`flavour.fitted` tells which). Raises ConfigError where the plan does not fit the model or a value that is
    quantized has no range.
    """
    check(plan, model)
    quantized = model.clone()
    for form in flavour.forms:
        quantized = form()(quantized).model
    graph = quantized.graph
    weights = [name for name, layer in fitted(plan, model, flavour).layers.items() if layer.precision == "int8"]
    placement = place(quantized, set(weights), add_absorbs=flavour.add_absorbs)
    if missing := [name for name in placement.own if name not in ranges]:
        raise ConfigError(f"no range is known for {', '.join(missing)}: calibrate this model again")
    qparams = {name: flavour.activation(ranges[name]) for name in placement.own}
    qparams |= {name: flavour.left(ranges[name]) for name in placement.left}
    qparams |= {name: flavour.right(ranges[name]) for name in placement.right}
    qparams |= {name: qparams[source] for name, source in placement.shared.items()}

    for weight in weights:
        _quantize_layers(quantized, weight, qparams, flavour)
    _quantize_activations(graph, placement, qparams, again=flavour.quantizes_moves)
    for name in [name for name, value in graph.initializers.items() if not value.uses()]:
        del graph.initializers[name]
    return quantized


def _quantize_activations(
    graph: ir.Graph, placement: Placement, qparams: Mapping[str, QParams], *, again: bool
) -> None:
    """Quantize every placed value, with one pair of parameters for all that share them.

    conv -> relu -> pool   becomes   conv -> relu -> Q -> DQ -> pool -> Q -> DQ, the last two if `again`

    What is computed in float and read in float is not rounded on the way; an integer kernel has no float result.
    """
    values = ir.convenience.create_value_mapping(graph)
    parameters = {name: add_qparams(graph, name, qparams[name]) for name in placement.own}
    for name in (*placement.own, *(placement.shared if again else ())):
        value, shared = values[name], parameters[placement.shared.get(name, name)]
        producer = value.producer()
        in_float = producer is None or producer.name not in placement.carriers
        uses = [use for use in value.uses() if not in_float or use.node.name in placement.carriers]
        is_output = value.is_graph_output() and not in_float
        pair = _quantize_pair(value, shared)
        if producer is not None:
            graph.insert_after(producer, pair)
        else:
            graph.insert_before(graph[0], pair)
        restored = pair[1].outputs[0]
        for node, index in uses:
            node.replace_input_with(index, restored)
        if is_output:
            graph.outputs[list(graph.outputs).index(value)] = restored
            value.name, restored.name = f"{name}/float", name


def _quantize_pair(value: ir.Value, parameters: Sequence[ir.Value]) -> tuple[ir.Node, ir.Node]:
    name = value.name
    quantized = ir.val(f"{name}/quantized", parameters[1].dtype, value.shape)
    restored = ir.val(f"{name}/dequantized", ir.DataType.FLOAT, value.shape)
    return (
        ir.node("QuantizeLinear", [value, *parameters], outputs=[quantized], name=f"{name}/quantize"),
        ir.node("DequantizeLinear", [quantized, *parameters], outputs=[restored], name=f"{name}/dequantize"),
    )


def _quantize_layers(model: ir.Model, weight: str, qparams: Mapping[str, QParams], flavour: Flavour) -> None:
    """Quantize all layers of one weight. A table that is also multiplied by is stored twice, once for each way."""
    value = model.graph.initializers[weight]
    layers = [(node, layer) for node in value.consumers() if (layer := as_layer(node))]
    products = [(node, layer) for node, layer in layers if layer.op in PRODUCTS]
    lookups = [node for node, layer in layers if layer.op == "Gather"]
    for node, layer in layers:
        if layer.op == "LSTM":
            quantize_lstm(model, node, flavour.weight_limit)
    if lookups:
        name = f"{weight}/rows" if products else weight
        quantize_embedding(model.graph, value, lookups, name, flavour.weight_limit)
    if products:
        _quantize_products(model.graph, value, products, qparams, flavour)


def _quantize_products(
    graph: ir.Graph,
    real: ir.Value,
    layers: Sequence[tuple[ir.Node, WeightedLayer]],
    qparams: Mapping[str, QParams],
    flavour: Flavour,
) -> None:
    """conv(x, w, b)   becomes   conv(x, DQ(w), b), and DQ(b) for b where the flavour wants it.

    A weight may be shared; then one scale serves all layers that read it.
    """
    weight, axis = str(real.name), layers[0][1].axis
    channels = layers[0][1].weight_shape[axis]
    biases = [(layer, _constant_bias(node, channels), qparams[layer.input].scale) for node, layer in layers]

    floor = np.zeros(channels)
    for _, bias, x_scale in biases:
        if bias is not None:  # a dead channel's bias would not fit int32 if the weights alone chose the scale
            floor = np.maximum(floor, np.abs(bias.numbers) / (float(x_scale) * 2**30))
    w = per_channel(array(real), axis, flavour.weight_limit, floor)
    del graph.initializers[weight]
    real.replace_all_uses_with(_dequantized(graph, weight, quantize(array(real), w, axis), w, axis))

    for layer, bias, x_scale in biases:
        if flavour.integer_bias and bias is not None:
            b = QParams(x_scale * w.scale, np.zeros(channels, np.int32))
            name = f"{layer.name}/bias"
            bias.node.replace_input_with(bias.index, _dequantized(graph, name, quantize(bias.numbers, b), b, axis=0))


@dataclass(frozen=True)
class _Bias:
    """A constant bias, one number a channel, and which input of which node it is."""

    node: ir.Node
    index: int
    numbers: NDArray[np.float64]


def _constant_bias(layer: ir.Node, channels: int) -> _Bias | None:
    """That of a layer, or of the Add that is all that reads a product without one; None where there is no such."""
    readers = layer.outputs[0].consumers()
    node, index = layer, 2
    if layer.op_type == "MatMul" and len(readers) == 1 and readers[0].op_type == "Add":
        node = readers[0]
        index = 1 - list(node.inputs).index(layer.outputs[0])
    bias = node.inputs[index] if len(node.inputs) > index else None
    if bias is None or bias.const_value is None:
        return None
    numbers = array(bias)
    if numbers.shape not in {(channels,), (1, channels)}:
        return None
    return _Bias(node, index, numbers.reshape(channels).astype(np.float64))


def _dequantized(graph: ir.Graph, name: str, integers: NDArray[Any], q: QParams, axis: int) -> ir.Value:
    """Store a constant as integers; return the real value that it stands for."""
    restored = ir.val(f"{name}/dequantized", ir.DataType.FLOAT, integers.shape)
    inputs = [add_constant(graph, name, integers), *add_qparams(graph, name, q)]
    node = ir.node("DequantizeLinear", inputs, {"axis": axis}, outputs=[restored], name=f"{name}/dequantize")
    graph.insert_before(graph[0], node)
    return restored
