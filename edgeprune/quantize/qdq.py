"""Spell a quantization plan as QuantizeLinear/DequantizeLinear pairs, in the dialect a runtime turns into integers.

One plan and one set of ranges go in; all in which the dialects differ stands in their Flavour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.errors import ConfigError
from edgeprune.graph.layers import as_layer
from edgeprune.quantize.affine import asymmetric, per_channel, quantize, symmetric
from edgeprune.quantize.placement import Placement, place
from edgeprune.quantize.plan import check
from edgeprune.quantize.spec import QParams, QuantPlan, Range

SEVEN_BITS = 64
"""Weight magnitude at which two products with 8-bit activations still fit 16 bits: 2 * 255 * 64 < 2^15."""


@dataclass(frozen=True)
class Flavour:
    """How one runtime wants a quantized graph. Weights are always signed, symmetric and per output channel."""

    activation: Callable[[Range], QParams]
    """Chooses an activation's parameters for its range."""
    integer_bias: bool
    """Whether a bias is stored as int32, in steps of input scale x weight scale, or left in float."""
    add_absorbs: bool
    """Whether a residual Add runs inside the convolution before it."""
    weight_limit: int = 127
    """The largest magnitude of a quantized weight."""

    def reduced(self) -> Flavour:
        """The same with 7-bit weights, for x86 without VNNI, whose 16-bit sums would saturate."""
        return replace(self, weight_limit=SEVEN_BITS)


_UNSIGNED = Flavour(asymmetric, integer_bias=True, add_absorbs=False)
FLAVOURS = {
    # Zero points at the end of the range let ONNX Runtime drop a ReLU, and it fuses a Gemm only with an integer bias.
    "ort": _UNSIGNED,
    # Runs the same graph with every Add inside a convolution; leaving those sums in float costs it a kernel each.
    "openvino": _UNSIGNED,
    # Zero points must be 0 and biases float; "quantize the residual input in skip connections", say its guidelines.
    "tensorrt": Flavour(symmetric, integer_bias=False, add_absorbs=True),
}


def emit(model: ir.Model, plan: QuantPlan, ranges: Mapping[str, Range], flavour: Flavour) -> ir.Model:
    """Return `model`, as `graph.cleanup.clean` left it, with the plan's int8 layers between Q/DQ pairs.

    Nodes keep their names, and so do weights, which become int8. Raises ConfigError where the plan does not fit the
    model or a value that is quantized has no range.
    """
    check(plan, model)
    quantized = model.clone()
    graph = quantized.graph
    weights = [name for name, layer in plan.layers.items() if layer.precision == "int8"]
    placement = place(quantized, set(weights), add_absorbs=flavour.add_absorbs)
    if missing := [name for name in placement.own if name not in ranges]:
        raise ConfigError(f"no range is known for {', '.join(missing)}: calibrate this model again")
    qparams = {name: flavour.activation(ranges[name]) for name in placement.own}
    qparams |= {name: qparams[source] for name, source in placement.shared.items()}

    for weight in weights:
        _quantize_weight(graph, weight, qparams, flavour)
    _quantize_activations(graph, placement, qparams)
    for name in [name for name, value in graph.initializers.items() if not value.uses()]:
        del graph.initializers[name]
    return quantized


def _quantize_activations(graph: ir.Graph, placement: Placement, qparams: Mapping[str, QParams]) -> None:
    """Quantize every placed value, with one pair of parameters for all that share them.

    conv -> relu -> pool   becomes   conv -> relu -> Q -> DQ -> pool -> Q -> DQ
    """
    values = ir.convenience.create_value_mapping(graph)
    parameters = {name: _parameters(graph, name, qparams[name]) for name in placement.own}
    for name in (*placement.own, *placement.shared):
        value, shared = values[name], parameters[placement.shared.get(name, name)]
        uses, is_output = value.uses(), value.is_graph_output()
        pair = _quantize_pair(value, shared)
        if (producer := value.producer()) is not None:
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


def _quantize_weight(graph: ir.Graph, weight: str, qparams: Mapping[str, QParams], flavour: Flavour) -> None:
    """conv(x, w, b)   becomes   conv(x, DQ(w), b), and DQ(b) for b where the flavour wants it.

    A weight may be shared; then one scale serves all layers that read it.
    """
    real = graph.initializers[weight]
    layers = [(node, layer) for node in real.consumers() if (layer := as_layer(node))]
    axis, channels = layers[0][1].axis, layers[0][1].weight_shape[layers[0][1].axis]
    biases = [(node, layer, _constant_bias(node, channels), qparams[layer.input].scale) for node, layer in layers]

    floor = np.zeros(channels)
    for _, _, bias, x_scale in biases:
        if bias is not None:  # a dead channel's bias would not fit int32 if the weights alone chose the scale
            floor = np.maximum(floor, np.abs(bias) / (float(x_scale) * 2**30))
    w = per_channel(_array(real), axis, flavour.weight_limit, floor)
    del graph.initializers[weight]
    real.replace_all_uses_with(_dequantized(graph, weight, quantize(_array(real), w, axis), w, axis))

    for node, layer, bias, x_scale in biases:
        if flavour.integer_bias and bias is not None:
            b = QParams(x_scale * w.scale, np.zeros(channels, np.int32))
            node.replace_input_with(2, _dequantized(graph, f"{layer.name}/bias", quantize(bias, b), b, axis=0))


def _constant_bias(node: ir.Node, channels: int) -> NDArray[np.float64] | None:
    """The constant bias of a layer, one number a channel; None where there is no such."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None or bias.const_value is None:
        return None
    array = _array(bias)
    return array.reshape(channels).astype(np.float64) if array.shape in {(channels,), (1, channels)} else None


def _dequantized(graph: ir.Graph, name: str, integers: NDArray[Any], q: QParams, axis: int) -> ir.Value:
    """Store a constant as integers; return the real value that it stands for."""
    restored = ir.val(f"{name}/dequantized", ir.DataType.FLOAT, integers.shape)
    inputs = [_initializer(graph, name, integers), *_parameters(graph, name, q)]
    node = ir.node("DequantizeLinear", inputs, {"axis": axis}, outputs=[restored], name=f"{name}/dequantize")
    graph.insert_before(graph[0], node)
    return restored


def _parameters(graph: ir.Graph, name: str, q: QParams) -> tuple[ir.Value, ir.Value]:
    return (
        _initializer(graph, f"{name}/scale", q.scale),
        _initializer(graph, f"{name}/zero_point", q.zero_point),
    )


def _initializer(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value


def _array(value: ir.Value) -> NDArray[Any]:
    assert value.const_value is not None
    array: NDArray[Any] = value.const_value.numpy()
    return array
