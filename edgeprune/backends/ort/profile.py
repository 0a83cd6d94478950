"""Read from ONNX Runtime's profile which precision each layer ran in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune.backends.attribution import attributed
from edgeprune.bundle import LayerPlan
from edgeprune.graph.operators import Operator, parts
from edgeprune.results import Layer

PRECISIONS = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "uint8": "int8", "int8": "int8"}
"""Of the data a kernel reads, and thereby of its arithmetic."""
QUANTIZE_INSIDE = {"DynamicQuantizeMatMul": "int8", "DynamicQuantizeLSTM": "int8", "MatMulNBits": "int4"}
"""Kernels that read float data and quantize it themselves, or read packed weights."""

_FUSED_NAME = re.compile(
    r"^(?:fused )?"  # Gemm and its activation
    r"(.*?)"
    r"(?:/MatMulAddFusion)?"  # MatMul and the Add behind it
    r"(?:_token_\d+)?$"  # the channels-last copy of a quantized convolution
)


def effective(evidence: Mapping[str, Any], layers: Sequence[LayerPlan]) -> tuple[Layer, ...]:
    """One Layer per plan, in that order; `unknown` where no executed node can be told to be the layer's.

    ONNX Runtime keeps a node's name through its fusions, with decorations, except for float convolutions in blocked
    layout, which it names after their output (`nchwc_transformer.cc`). All of those are float32, so it is enough to
    know that there is one for each convolution that is left.
    """
    executed = {_FUSED_NAME.sub(r"\1", node["name"]): node for node in evidence["nodes"]}
    blocked = [node for node in evidence["nodes"] if node["op"] == "Conv" and node["name"].endswith("_nchwc")]
    left = [plan for plan in layers if plan.op == "Conv" and plan.name not in executed]
    if len(left) <= len(blocked):
        executed.update({plan.name: node for plan, node in zip(left, blocked, strict=False)})
    runtime = f"ONNX Runtime {evidence['version']}"
    asked = evidence.get("provider", "")
    return tuple(_layer(plan, executed.get(plan.name), runtime, asked) for plan in layers)


def times(evidence: Mapping[str, Any], graph: Sequence[Operator]) -> dict[str, float]:
    """Microseconds by operator of the graph."""
    kernels = ((_FUSED_NAME.sub(r"\1", node["name"]).removesuffix("_nchwc"), node["us"]) for node in evidence["nodes"])
    return attributed((((name,), us) for name, us in kernels), parts(graph))


def _layer(plan: LayerPlan, node: Mapping[str, Any] | None, runtime: str, asked: str) -> Layer:
    found = "unknown" if node is None else _precision(node)
    ran = "" if node is None else node.get("provider", asked)
    if ran not in ("", asked):
        return Layer(plan.name, plan.op, plan.precision, "unknown", f"{runtime} ran it on {ran}, not on {asked}")
    if found == plan.precision:
        reason = plan.reason
    elif node is None:
        reason = f"{runtime} executed no node that can be told to be this {plan.op}"
    elif plan.precision == "int8":
        reason = f"{node['op']} ran in float between Q and DQ: {runtime} did not fuse them into an integer kernel"
    else:
        reason = f"{runtime} ran it as {node['op']} on {', '.join(node['inputs'][:1])}"
    return Layer(plan.name, plan.op, plan.precision, found, reason)


def _precision(node: Mapping[str, Any]) -> str:
    return QUANTIZE_INSIDE.get(node["op"]) or PRECISIONS.get(node["inputs"][0], "unknown")
