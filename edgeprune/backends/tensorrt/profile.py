"""Read from the layers of an engine which precision each layer of the network runs in, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune.backends.attribution import attributed
from edgeprune.bundle import LayerPlan
from edgeprune.graph.operators import Operator, parts
from edgeprune.results import Layer


def effective(evidence: Mapping[str, Any], layers: Sequence[LayerPlan]) -> tuple[Layer, ...]:
    """One Layer per plan, in that order; `unknown` where no layer of the engine can be told to be it."""
    runtime = f"TensorRT {evidence['version']}"
    return tuple(_layer(plan, [n for n in evidence["nodes"] if plan.name in n["layers"]], runtime) for plan in layers)


def times(evidence: Mapping[str, Any], graph: Sequence[Operator]) -> dict[str, float]:
    """Microseconds by operator of the graph."""
    return attributed(((node["layers"], node["us"]) for node in evidence["nodes"]), parts(graph))
