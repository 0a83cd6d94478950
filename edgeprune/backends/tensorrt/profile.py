"""Read from the layers of an engine which precision each layer of the network runs in, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune.backends.attribution import attributed
from edgeprune.bundle import LayerPlan
from edgeprune.graph.operators import Operator, parts
from edgeprune.results import Layer

WIDTHS = ("int4", "int8", "fp16", "bf16", "fp32")
"""The narrowest first."""
BESIDE = frozenset({"Constant", "NoOp", "Reformat", "cast", "kgen", "reshape", "shape_call"})
"""Kinds of kernels that convert, move and round what others compute with; they name the same nodes of the file."""


def effective(evidence: Mapping[str, Any], layers: Sequence[LayerPlan]) -> tuple[Layer, ...]:
    """One Layer per plan, in that order; `unknown` where no kernel of the engine can be told to be its.

    Where several compute it, as the steps of a recurrent layer, the widest tells.
    """
    runtime = f"TensorRT {evidence['version']}"
    return tuple(_layer(plan, _kernels(plan.name, evidence["nodes"]), runtime) for plan in layers)


def times(evidence: Mapping[str, Any], graph: Sequence[Operator]) -> dict[str, float]:
    """Microseconds by operator of the graph."""
    return attributed(((node["layers"], node["us"]) for node in evidence["nodes"]), parts(graph))


def _kernels(name: str, nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that compute the layer; where there are none beside, what stands around it: tables are looked up there."""
    found = [node for node in nodes if name in node["layers"]]
    return [node for node in found if node["type"] not in BESIDE] or found


def _layer(plan: LayerPlan, kernels: Sequence[Mapping[str, Any]], runtime: str) -> Layer:
    ran = [precision for node in kernels if (precision := _precision(node))]
    found = max(ran, key=WIDTHS.index, default="unknown")
    if found == plan.precision:
        reason = plan.reason
    elif not kernels:
        reason = f"{runtime} has no kernel that can be told to be this {plan.op}"
    else:
        widest = next((node for node in kernels if _precision(node) == found), kernels[0])
        reason = f"{runtime} runs it as {widest['type']} on {', '.join(widest['inputs']) or 'what it does not tell'}"
    return Layer(plan.name, plan.op, plan.precision, found, reason)


def _precision(node: Mapping[str, Any]) -> str:
    """Of what it reads: weights in 4 bits beside data in float are multiplied with as they are."""
    if "int4" in node["weights"]:
        return "int4"
    return next((kind for kind in (*node["inputs"], *node["weights"]) if kind in WIDTHS), "")
