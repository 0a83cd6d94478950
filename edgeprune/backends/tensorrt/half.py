"""Let a float graph compute in FP16: in a strongly typed network the file itself says so."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.errors import ModelError

LARGEST = float(np.finfo(np.float16).max)
IN_FLOAT = {"Resize": (1, 2), "Upsample": (1,)}
"""Inputs that stay float32: ONNX has no other type for the scales of sizes."""


class Half(ir.passes.InPlacePass):
    """Cast what goes in, store weights in FP16, cast what comes out; both ends of the network stay float32.

    x -> conv(w) -> y   becomes   x -> Cast -> conv(half w) -> Cast -> y
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the whole graph. Raises ModelError naming a node that holds a graph of its own or has Q/DQ."""
        graph = model.graph
        for node in graph:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                raise ModelError(f"node '{node.name}': a quantized graph keeps the types that it has")
            if any(
                attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
                for attribute in node.attributes.values()
            ):
                raise ModelError(f"node '{node.name}' ({node.op_type}): a graph inside a node cannot be made FP16")
        kept = {node.inputs[i] for node in graph for i in IN_FLOAT.get(node.op_type, ()) if i < len(node.inputs)}
        for value in list(graph.initializers.values()):
            if value.dtype == ir.DataType.FLOAT and value not in kept:
                _store_half(value)
        for node in list(graph):
            _retype(node)
        for value in graph.inputs:
            if value.dtype == ir.DataType.FLOAT:
                _cast_behind(graph, value)
        for index, value in enumerate(graph.outputs):
            if value.dtype == ir.DataType.FLOAT16:
                _cast_before(graph, index)
        return ir.passes.PassResult(model, modified=True)


def _store_half(value: ir.Value) -> None:
    """What is larger than FP16 holds becomes its largest number: that is a mask's minus infinity, or none."""
    assert value.const_value is not None
    numbers = np.clip(value.const_value.numpy(), -LARGEST, LARGEST).astype(np.float16)
    value.const_value, value.dtype = ir.tensor(numbers, name=value.name), ir.DataType.FLOAT16


def _retype(node: ir.Node) -> None:
    for name, attribute in list(node.attributes.items()):
        if node.op_type == "Cast" and name == "to" and attribute.as_int() == ir.DataType.FLOAT:
            node.attributes[name] = ir.AttrInt64(name, ir.DataType.FLOAT16)
        elif attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == ir.DataType.FLOAT:
            numbers = np.clip(attribute.as_tensor().numpy(), -LARGEST, LARGEST).astype(np.float16)
            node.attributes[name] = ir.AttrTensor(name, ir.tensor(numbers))
    for value in node.outputs:
        if value.dtype == ir.DataType.FLOAT:
            value.dtype = ir.DataType.FLOAT16


def _cast_behind(graph: ir.Graph, value: ir.Value) -> None:
    cast = _cast(f"{value.name}/half", value, ir.DataType.FLOAT16)
    users = [use for use in value.uses() if use.node is not cast]
    for use in users:
        use.node.replace_input_with(use.idx, cast.outputs[0])
    graph.insert_before(graph[0], cast)


def _cast_before(graph: ir.Graph, index: int) -> None:
    value = graph.outputs[index]
    cast = _cast(f"{value.name}/float", value, ir.DataType.FLOAT)
    name, value.name = value.name, f"{value.name}/half"
    cast.outputs[0].name = name
    graph.outputs[index] = cast.outputs[0]
    graph.append(cast)


def _cast(name: str, value: ir.Value, kind: ir.DataType) -> ir.Node:
    cast = ir.node("Cast", [value], {"to": int(kind)}, name=name)
    cast.outputs[0].name, cast.outputs[0].dtype, cast.outputs[0].shape = name, kind, value.shape
    return cast
