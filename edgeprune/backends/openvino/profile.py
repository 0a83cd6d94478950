"""Read from OpenVINO's runtime model which precision each layer ran in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeprune.backends.attribution import attributed
from edgeprune.bundle import LayerPlan
from edgeprune.graph.operators import Operator, parts
from edgeprune.results import Layer

PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "I8": "int8", "i8": "int8", "u8": "int8"}
MOVES = ("Reorder", "Reshape", "Transpose", "Convert")
"""What may stand between a weight and the operator that multiplies by it."""
RECURRENT = ("LSTM", "GRU", "RNN")
SEQUENCES = ("RNNSeq", "RNNCell")
"""What OpenVINO runs them as, one for each direction."""

_FOLDED = re.compile(r"/(cast|reorder)$")  # the last node that unpacked a weight stored in 4 bits
_PART_OF = re.compile(r"^(.*?)(?:/WithoutBiases)?(?:/Dequantization\w+)?$")  # a node split into product, scale and bias


def effective(evidence: Mapping[str, Any], layers: Sequence[LayerPlan]) -> tuple[Layer, ...]:
    """One Layer per plan, in that order; `unknown` where no executed operator can be told to be the layer's.

    An operator is a layer's if the layer's weight reaches it, or else if it lists the layer among those that it was
    made from: a depthwise weight loses its name, a MatMul at the model's output is renamed after that output. A
    recurrent layer loses its own name and its weights'; but where all that are left ran alike, each of them did.
    """
    nodes = {node["name"]: node for node in evidence["nodes"]}
    hint = str(evidence["hint"])
    by_weight = {
        _FOLDED.sub("", str(const["name"])): (node, const) for node in _work(nodes) for const in _weights(node, nodes)
    }
    by_name = {_PART_OF.sub(r"\1", name): (node, None) for node in _work(nodes) for name in node["layers"]}
    found = [by_weight.get(plan.weight) or by_name.get(plan.name) for plan in layers]
    nameless = [index for index, plan in enumerate(layers) if plan.op in RECURRENT and found[index] is None]
    sequences = [node for node in _work(nodes) if node["type"] in SEQUENCES]
    if len(nameless) <= len(sequences) and len({_precision(node, None, hint) for node in sequences}) == 1:
        for index in nameless:
            found[index] = (sequences[0], None)
    runtime = f"OpenVINO {evidence['version']}"
    return tuple(_layer(plan, one, hint, runtime) for plan, one in zip(layers, found, strict=True))


def times(evidence: Mapping[str, Any], graph: Sequence[Operator]) -> dict[str, float]:
    """Microseconds by operator of the graph.

    Recurrent layers lose their names; where each of them may have as many kernels, they have them in order.
    """
    recurrent = [one.name for one in graph if one.kind.startswith(RECURRENT)]
    sequences = [node["name"] for node in evidence["nodes"] if node["type"] in SEQUENCES]
    each = len(sequences) // len(recurrent) if recurrent and len(sequences) % len(recurrent) == 0 else 0
    named = {name: recurrent[index // each] for index, name in enumerate(sequences)} if each else {}
    kernels = []
    for node in evidence["nodes"]:
        names = [_PART_OF.sub(r"\1", one) for one in (node["name"], *node["layers"])]
        kernels.append(([*names, *([named[node["name"]]] if node["name"] in named else [])], node["us"]))
    return attributed(kernels, parts(graph))


def _work(nodes: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (node for node in nodes.values() if node["type"] not in {"Input", "Output", "Const", *MOVES})


def _weights(node: Mapping[str, Any], nodes: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The constants that `node` reads, some of them moved on the way."""
    for name in node["inputs"]:
        source = nodes.get(name)
        while source is not None and source["type"] in MOVES:
            source = nodes.get(source["inputs"][0])
        if source is not None and source["type"] == "Const":
            yield source


def _layer(
    plan: LayerPlan, found: tuple[Mapping[str, Any], Mapping[str, Any] | None] | None, hint: str, runtime: str
) -> Layer:
    if found is None:
        reason = f"{runtime} executed no operator that can be told to be this {plan.op}"
        return Layer(plan.name, plan.op, plan.precision, "unknown", reason)
    node, weight = found
    precision = _precision(node, weight, hint)
    if precision == plan.precision:
        reason = plan.reason
    elif plan.precision == "bf16":
        reason = f"asked for bf16, {runtime} chose {node['primitive']}: not offered on this CPU"
    else:
        reason = f"{runtime} ran it as {node['type']} {node['primitive']}"
    return Layer(plan.name, plan.op, plan.precision, precision, reason)


def _precision(node: Mapping[str, Any], weight: Mapping[str, Any] | None, hint: str) -> str:
    """From the primitive's name, which ends in the type of its data.

    Not from `runtimePrecision`: a float FullyConnected with compressed weights says `i8` there. In a Subgraph several
    layers share one name; there the weight's own type tells, because a matrix product enters a Subgraph only if both
    its operands are of one kind (`mlp_seq_tokenization.cpp`).
    """
    kind = str(node["primitive"]).rpartition("_")[2]
    if node["type"] == "Subgraph":
        if weight is None:
            return "unknown"
        kind = weight["precision"] if weight["precision"] in ("i8", "u8") else hint
    return PRECISIONS.get(kind, "unknown")
