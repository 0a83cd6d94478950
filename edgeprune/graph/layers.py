"""The layers of a graph that carry weights: what is pruned, quantized and reported."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.graph.cost import node_macs


@dataclass(frozen=True)
class WeightedLayer:
    """A Conv, Gemm or MatMul whose weight is constant."""

    name: str
    """The node's."""
    op: str
    weight: str
    """The weight initializer's name; it is the torch parameter's where the model came from torch."""
    weight_shape: tuple[int, ...]
    input: str
    output: str
    macs: int
    axis: int
    """The weight's dimension that counts output channels."""
    groups: int = 1

    @property
    def depthwise(self) -> bool:
        """Whether each group has a single input channel."""
        return self.groups > 1 and self.weight_shape[1] == 1


def weighted_layers(model: ir.Model) -> tuple[WeightedLayer, ...]:
    """All of them, in the order they are computed."""
    return tuple(layer for node in model.graph if (layer := as_layer(node)) is not None)


def as_layer(node: ir.Node) -> WeightedLayer | None:
    """The node as a weighted layer; None where it is none."""
    if node.domain != "" or node.op_type not in {"Conv", "Gemm", "MatMul"}:
        return None
    data, weight = node.inputs[0], node.inputs[1]
    if data is None or weight is None or data.const_value is not None or weight.const_value is None:
        return None
    shape = tuple(weight.const_value.shape.numpy())
    if node.op_type == "MatMul" and len(shape) != 2:
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
        groups=node.attributes.get_int("group", 1),
    )


def _output_axis(node: ir.Node) -> int:
    if node.op_type == "Conv" or node.attributes.get_int("transB", 0) == 1:
        return 0
    return 1
