"""A graph that somebody else quantized: tell it, read what it computes in integers, and the float model behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from edgeprune.bundle import LayerPlan
from edgeprune.errors import ModelError

PAIR = ("QuantizeLinear", "DequantizeLinear")
INTEGER = frozenset({"ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QGemm", "QMoE", "QAttention"})
"""Operators that compute with integers themselves, like those whose names begin as below."""
INTEGER_PREFIXES = ("QLinear", "DynamicQuantize", "MatMulNBits", "MatMulBnb4", "MatMulInteger", "GatherBlockQuantized")
TYPES = frozenset(ir.DataType[name] for name in ("INT8", "UINT8", "INT16", "UINT16", "INT4", "UINT4", "INT32"))
EIGHT_BITS = frozenset({ir.DataType.INT8, ir.DataType.UINT8})

MOVES = frozenset({"Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "MaxPool"})
"""What may stand between Q and DQ: it computes the same on integers as on what they stand for."""
AVERAGES = frozenset({"AveragePool", "GlobalAveragePool"})
NOT_NEGATIVE = frozenset({"Relu", "Clip", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Abs", "Sqrt"})
RELU6 = 6.0


def is_quantized(model: ir.Model) -> bool:
    """Whether the graph holds QuantizeLinear/DequantizeLinear.

    Raises ModelError naming the node where it is quantized in a form that cannot be read back into a float model:
    integer operators, scales that are computed as it runs, or float8.
    """
    for node in model.graph.all_nodes():
        if node.op_type in INTEGER or node.op_type.startswith(INTEGER_PREFIXES):
            raise _refused(node, "is an operator on integers: give the float model, or one with Q/DQ pairs")
        if _is_pair(node) and any(value is not None and _array(value) is None for value in node.inputs[1:]):
            raise _refused(node, "has a scale that is computed as the model runs: give the float model")
        if _is_pair(node) and _type(node) not in TYPES:
            raise _refused(node, f"quantizes to {_type(node)}: give the float model, or one quantized to integers")
    return any(_is_pair(node) for node in model.graph)


def strip(model: ir.Model) -> ir.Model:
    """The float model that a Q/DQ model stands for, equal to it up to what quantization rounds and cuts off.

    x -> Q -> DQ -> conv(., DQ(w), DQ(b))   becomes   x -> conv(., w, b)

    Integer constants become the floats they stand for; weights that are kept in float before their own Q/DQ stay.
    Quantizers drop a ReLU in front of a Q whose least integer stands for zero, since Q cuts off there: it is put back.
    Raises ModelError naming a node that cannot be undone.
    """
    stripped = common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model.clone()).model
    is_quantized(stripped)
    graph = stripped.graph
    pairs = [node for node in graph if _is_pair(node)]
    constant = [node for node in pairs if node.op_type == PAIR[1] and _array(_data(node)) is not None]
    moved = [value for node in pairs if node.op_type == PAIR[1] and node not in constant for value in _moved(node)]
    activations = {node: _activation(node) for node in pairs if node.op_type == PAIR[0]}
    for node in constant:
        _fold(graph, node)
    for node in pairs:
        if node not in constant:
            _replace(graph, node, activations.get(node, "Identity"))
    for value in moved:
        value.type = ir.TensorType(ir.DataType.FLOAT)  # not its dtype: clones share the type
    passes = (common.IdentityEliminationPass(), common.RemoveUnusedNodesPass(), common.ShapeInferencePass())
    return ir.passes.Sequential(*passes)(stripped).model


def given_layers(model: ir.Model) -> tuple[LayerPlan, ...]:
    """The layers with weights of a Q/DQ model, in the order they are computed, each in int8 or left in float.

    A layer is in int8 where its input and its weight both are; `weight` names the initializer as it is in this file.
    """
    return tuple(_plan(node) for node in model.graph if stored_weight(node) is not None)


def stored_weight(node: ir.Node) -> ir.Value | None:
    """The constant that is the weight of a Conv, Gemm or MatMul, perhaps through Q/DQ; None where there is none."""
    if node.domain != "" or node.op_type not in {"Conv", "Gemm", "MatMul"}:
        return None
    data, weight = _origin(node.inputs[0]), _origin(node.inputs[1])
    if data is None or weight is None or _array(data) is not None or (array := _array(weight)) is None:
        return None
    return None if node.op_type == "MatMul" and array.ndim != 2 else weight


def float_name(weight: str) -> str:
    """What a weight was called before it was quantized: ONNX Runtime's quantizer appends `_quantized`."""
    return weight.removesuffix("_quantized")


def _plan(node: ir.Node) -> LayerPlan:
    weight = stored_weight(node)
    assert weight is not None
    array = _array(weight)
    assert array is not None
    kinds = [_kind(value) for value in node.inputs[:2]]
    shown = [kind.name.lower() if kind else "float" for kind in kinds]
    quantized = all(kind in EIGHT_BITS for kind in kinds)
    reason = f"the given file has a {shown[0]} input and {shown[1]} weights"
    return LayerPlan(
        str(node.name),
        node.op_type,
        str(weight.name),
        "int8" if quantized else "fp32",
        reason,
        8.0 if quantized else 32.0,
        array.size,
    )


def _kind(value: ir.Value | None) -> ir.DataType | None:
    """The type that a value was quantized to; moves keep it."""
    producer = value.producer() if value is not None else None
    while producer is not None and producer.op_type in MOVES and producer.inputs[0] is not None:
        producer = producer.inputs[0].producer()
    return _type(producer) if producer is not None and _is_pair(producer) else None


def _origin(value: ir.Value | None) -> ir.Value | None:
    """The value in front of Q/DQ pairs and moves."""
    while value is not None and (producer := value.producer()) is not None and producer.op_type in (*PAIR, *MOVES):
        value = producer.inputs[0]
    return value


def _moved(dequantize: ir.Node) -> list[ir.Value]:
    """The values from the Q that a DQ undoes to it: integers, that are to be floats."""
    values = [_data(dequantize)]
    while (producer := values[-1].producer()) is not None and producer.op_type in MOVES:
        values += [value for value in producer.inputs[:1] if value is not None]
    if producer is None or producer.op_type != PAIR[0]:
        raise _refused(dequantize, "dequantizes what nothing quantized: give a model with float inputs")
    mine, its = (
        [array for value in one.inputs[1:] if (array := _array(value)) is not None] for one in (dequantize, producer)
    )
    if len(mine) != len(its) or not all(map(np.array_equal, mine, its)):
        raise _refused(dequantize, f"dequantizes with other parameters than '{producer.name}' quantized with")
    if any(value.is_graph_output() for value in values):
        raise _refused(dequantize, "reads integers that are an output of the model: give one with float outputs")
    return values


def _activation(quantize: ir.Node) -> str:
    """The activation that Q stands for too: `Relu` or `Clip`, to 6; `Identity` where it cuts nothing off."""
    if not _starts_at_zero(quantize) or _is_not_negative(_data(quantize)):
        return "Identity"
    scale, limits = _array(quantize.inputs[1]), np.iinfo(_type(quantize).numpy())
    assert scale is not None
    return "Clip" if abs(float(scale.reshape(-1)[0]) * (limits.max - limits.min) - RELU6) < 1e-3 else "Relu"


def _starts_at_zero(quantize: ir.Node) -> bool:
    """Whether the least integer stands for zero."""
    zero = _array(quantize.inputs[2]) if len(quantize.inputs) > 2 else np.zeros(1)
    return zero is not None and bool(np.all(zero == np.iinfo(_type(quantize).numpy()).min))


def _is_not_negative(value: ir.Value) -> bool:
    """Whether it is known to be so; of the model's inputs, the quantizer saw none that are."""
    while (producer := value.producer()) is not None and producer.op_type in (*MOVES, *AVERAGES, *PAIR):
        if producer.op_type == PAIR[0] and _starts_at_zero(producer):
            return True
        value = _data(producer)
    return producer is None or producer.op_type in NOT_NEGATIVE


def _replace(graph: ir.Graph, node: ir.Node, op_type: str) -> None:
    """Put an activation in the place of a Q or DQ; its output keeps its name."""
    old, inputs = node.outputs[0], [_data(node)]
    if op_type == "Clip":
        inputs += [_initializer(graph, f"{old.name}/{bound}", np.float32(bound)) for bound in (0, RELU6)]
    new = ir.node(op_type, inputs, name=node.name)
    graph.insert_before(node, new)
    new.outputs[0].type, new.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), old.shape
    ir.convenience.replace_all_uses_with(old, new.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)
    new.outputs[0].name = old.name


def _fold(graph: ir.Graph, dequantize: ir.Node) -> None:
    """Store a dequantized constant in float, under the name it had before it was quantized."""
    stored, old = _data(dequantize), dequantize.outputs[0]
    name = float_name(str(stored.name))
    if old.is_graph_output():
        raise _refused(dequantize, "gives a constant as output of the model: remove it")
    real = _initializer(graph, str(old.name) if name in graph.initializers else name, _real(dequantize))
    old.replace_all_uses_with(real)
    graph.remove(dequantize, safe=True)
    if not stored.uses() and stored.name in graph.initializers:
        del graph.initializers[str(stored.name)]


def _real(dequantize: ir.Node) -> NDArray[np.float32]:
    """(integers - zero point) * scale, of which both may be per tensor, per slice of an axis, or per block along it."""
    integers, scale, *zeros = (_array(value) for value in dequantize.inputs if value is not None)
    assert integers is not None
    assert scale is not None
    zero = zeros[0] if zeros and zeros[0] is not None else np.zeros_like(scale)
    axis, block = dequantize.attributes.get_int("axis", 1), dequantize.attributes.get_int("block_size", 0)

    def spread(parameter: NDArray[Any]) -> NDArray[np.float64]:
        real = parameter.astype(np.float64)
        if block:
            return np.take(real.repeat(block, axis), range(integers.shape[axis]), axis)
        return real.reshape(
            [-1 if i == axis % integers.ndim else 1 for i in range(integers.ndim)] if real.size > 1 else []
        )

    return ((integers.astype(np.float64) - spread(zero)) * spread(scale)).astype(np.float32)


def _initializer(graph: ir.Graph, name: str, array: Any) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value


def _is_pair(node: ir.Node) -> bool:
    return node.op_type in PAIR


def _data(node: ir.Node) -> ir.Value:
    assert node.inputs[0] is not None
    return node.inputs[0]


def _type(node: ir.Node) -> ir.DataType:
    """The quantized type of a Q or DQ; ONNX's default is UINT8."""
    value = node.outputs[0] if node.op_type == PAIR[0] else _data(node)
    return value.dtype or ir.DataType.UINT8


def _array(value: ir.Value | None) -> NDArray[Any] | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _refused(node: ir.Node, why: str) -> ModelError:
    return ModelError(f"node '{node.name or node.outputs[0].name}' ({node.op_type}) {why}")
