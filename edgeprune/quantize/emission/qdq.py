"""Spell a quantization plan as QuantizeLinear/DequantizeLinear pairs, in the dialect a runtime turns into integers.

One plan and one set of ranges go in; all in which the dialects differ stands in their Flavour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.errors import ConfigError
from edgeprune.graph.layers import PRODUCTS, WeightedLayer, as_layer, weighted_layers
from edgeprune.graph.opset import at_least
from edgeprune.quantize.affine import quantize
from edgeprune.quantize.constants import add_constant, add_qparams, array
from edgeprune.quantize.emission.blocks import quantize_blocks
from edgeprune.quantize.emission.embedding import quantize_embedding
from edgeprune.quantize.emission.flavour import Flavour, fitted, in_blocks
from edgeprune.quantize.emission.packing import OPSET, add_integers
from edgeprune.quantize.emission.placement import Placement, place
from edgeprune.quantize.emission.recurrent import quantize_lstm
from edgeprune.quantize.emission.stored import on_grid
from edgeprune.quantize.plan import check
from edgeprune.quantize.spec import LIMITS, LayerQuant, QParams, QuantPlan, Range, Rounded


def emit(
    model: ir.Model,
    plan: QuantPlan,
    ranges: Mapping[str, Range],
    flavour: Flavour,
    rounded: Mapping[str, Rounded] | None = None,
) -> ir.Model:
    """Return `model`, as `graph.cleanup.clean` left it, with the plan's int8 and int4 layers between Q/DQ pairs.

    Nodes keep their names, and so do weights, which become int8 or int4; what the flavour cannot have so narrow is
    wider (`flavour.fitted` tells which). Channels in 4 bits of a weight in `rounded` are as that says, all others go to
    the nearest integer. Raises ConfigError where the plan does not fit the model or a value that is quantized has no
    range, ModelError where 4 bits need another opset and the graph cannot be brought there.
    """
    check(plan, model)
    chosen = fitted(plan, model, flavour)
    layers = chosen.layers
    four_bits = any(layer.precision == "int4" for layer in layers.values())
    quantized = at_least(model.clone(), OPSET if four_bits else 0)
    for form in flavour.forms:
        quantized = form()(quantized).model
    graph = quantized.graph
    blocks = in_blocks(chosen, quantized, flavour)
    weights = [name for name, layer in layers.items() if layer.precision != "fp32" and name not in blocks]
    placement = place(quantized, set(weights), add_absorbs=flavour.add_absorbs)
    ranges = _with_moved(ranges, quantized)
    if missing := [name for name in placement.own if name not in ranges]:
        raise ConfigError(f"no range is known for {', '.join(missing)}: calibrate this model again")
    qparams = {name: flavour.activation(ranges[name]) for name in placement.own}
    qparams |= {name: flavour.left(ranges[name]) for name in placement.left}
    qparams |= {name: flavour.right(ranges[name]) for name in placement.right}
    qparams |= {name: qparams[source] for name, source in placement.shared.items()}

    given = rounded or {}
    for layer in blocks.values():
        quantize_blocks(graph, layer, given.get(layer.weight))
    for weight in weights:
        _quantize_layers(quantized, weight, layers[weight], qparams, flavour, given.get(weight))
    _quantize_activations(graph, placement, qparams, again=flavour.quantizes_moves)
    for name in [name for name, value in graph.initializers.items() if not value.uses()]:
        del graph.initializers[name]
    return quantized


def _with_moved(ranges: Mapping[str, Range], model: ir.Model) -> dict[str, Range]:
    """Ranges also of what only moves a value that has one: behind a layer in float it is quantized on its own."""
    shared = place(model, {layer.weight for layer in weighted_layers(model)}, add_absorbs=False).shared
    return {name: ranges[source] for name, source in shared.items() if source in ranges} | dict(ranges)


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


def _quantize_layers(
    model: ir.Model,
    weight: str,
    chosen: LayerQuant,
    qparams: Mapping[str, QParams],
    flavour: Flavour,
    rounded: Rounded | None,
) -> None:
    """Quantize all layers of one weight. A table that is also multiplied by is stored twice, once for each way."""
    value = model.graph.initializers[weight]
    layers = [(node, layer) for node in value.consumers() if (layer := as_layer(node))]
    products = [(node, layer) for node, layer in layers if layer.op in PRODUCTS]
    lookups = [node for node, layer in layers if layer.op == "Gather"]
    four = chosen.precision == "int4"
    limit = min(LIMITS[chosen.precision], flavour.weight_limit)
    for node, layer in layers:
        if layer.op == "LSTM":
            quantize_lstm(model, node, limit, four=four)
    if lookups:
        name = f"{weight}/rows" if products else weight
        quantize_embedding(model.graph, value, lookups, name, limit, four=four)
    if products:
        _quantize_products(model.graph, value, products, chosen, qparams, flavour, rounded)


def _quantize_products(
    graph: ir.Graph,
    real: ir.Value,
    layers: Sequence[tuple[ir.Node, WeightedLayer]],
    chosen: LayerQuant,
    qparams: Mapping[str, QParams],
    flavour: Flavour,
    rounded: Rounded | None,
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
    integers, w = on_grid(array(real), axis, chosen, flavour, rounded, floor)
    del graph.initializers[weight]
    stored = add_integers(graph, weight, integers, four=chosen.precision == "int4", wide=chosen.wide, axis=axis)
    # ONNX Runtime has no Gemm in integers without a zero point; a Conv needs none, and its file gets smaller
    zero = any(layer.op != "Conv" for _, layer in layers)
    real.replace_all_uses_with(_dequantized(graph, weight, stored, w, axis, zero=zero))

    for layer, bias, x_scale in biases:
        if flavour.integer_bias and bias is not None:
            b = QParams(x_scale * w.scale, np.zeros(channels, np.int32))
            name = f"{layer.name}/bias"
            stored = add_constant(graph, name, quantize(bias.numbers, b))
            bias.node.replace_input_with(bias.index, _dequantized(graph, name, stored, b, axis=0, zero=zero))


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


def _dequantized(graph: ir.Graph, name: str, integers: ir.Value, q: QParams, axis: int, *, zero: bool) -> ir.Value:
    """The real value that constant integers stand for; `zero`: say that their zero point is 0, as it is anyhow."""
    restored = ir.val(f"{name}/dequantized", ir.DataType.FLOAT, integers.shape)
    parameters = add_qparams(graph, name, q) if zero else (add_constant(graph, f"{name}/scale", q.scale),)
    inputs = [integers, *parameters]
    node = ir.node("DequantizeLinear", inputs, {"axis": axis}, outputs=[restored], name=f"{name}/dequantize")
    producer = integers.producer()
    if producer is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)
    return restored
