"""Decide the precision of every layer."""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir

from edgeprune.errors import ConfigError, ModelError
from edgeprune.graph.layers import WeightedLayer, weighted_layers
from edgeprune.quantize.spec import LayerQuant, QuantPlan

QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"})
"""Operators of a graph that is quantized already; QLinearConv, QGemm, MatMulNBits and their kind go by their names."""


def uniform_plan(model: ir.Model, precision: Literal["int4", "int8", "fp32"]) -> QuantPlan:
    """The same precision for every layer.

    Raises ModelError where it is a quantized one and the model is quantized already, has no layer with weights, or has
    weights that are not float32.
    """
    layers = weighted_layers(model)
    if precision != "fp32":
        _check_quantizable(model, layers)
    reason = f"every layer in {precision}, as asked for"
    return QuantPlan({layer.weight: LayerQuant(precision, reason) for layer in layers})


def check(plan: QuantPlan, model: ir.Model) -> None:
    """Raise ConfigError unless the plan has one entry for each weight of the model, and none besides."""
    weights = {layer.weight for layer in weighted_layers(model)}
    if missing := sorted(weights - plan.layers.keys()):
        raise ConfigError(f"the quantization plan says nothing about {', '.join(missing)}: plan again for this model")
    if unused := sorted(plan.layers.keys() - weights):
        raise ConfigError(f"the quantization plan names weights the model lacks: {', '.join(unused)}: plan again")


def _check_quantizable(model: ir.Model, layers: tuple[WeightedLayer, ...]) -> None:
    for node in model.graph:
        if node.op_type in QUANTIZED or node.op_type.startswith("QLinear"):
            raise ModelError(
                f"node '{node.name}' ({node.op_type}): the model is quantized already: give the float model instead"
            )
    if not layers:
        raise ModelError("the model has no Conv, Gemm or MatMul with constant weights: there is nothing to quantize")
    for layer in layers:
        dtype = model.graph.initializers[layer.weight].dtype
        if dtype != ir.DataType.FLOAT:
            raise ModelError(f"'{layer.weight}' is {dtype}: only float32 models are quantized")
