"""Foretell from a latency table what a model would take, and each of its layers in each precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.operators import Operator, operators
from edgeprune.latency_table import Key, LatencyTable, Prediction, Work
from edgeprune.quantize.emission.flavour import Flavour, fitted, kernel
from edgeprune.quantize.spec import QuantPlan

PRECISIONS = ("fp32", "int8")


def predict(
    model: ir.Model, plan: QuantPlan, flavour: Flavour, table: LatencyTable, runtime: str, *, real: str = "fp32"
) -> Prediction:
    """The latency of a model, as `graph.cleanup.clean` left it, quantized by `plan` in a runtime's flavour.

    t = sum_o t_o, o an operator with all that runs along with it. `real` is what float layers run in: `fp32` or `bf16`.
    """
    kernels = _kernels(model, plan, flavour)
    quantized = any(precision != "fp32" for precision in kernels.values())
    asked, network_bytes = [], 0
    for operator, weight in _decided(_spelled(model, flavour) if quantized else model):
        precision = kernels.get(weight, "fp32")
        key, work = _asked(runtime, operator, real if precision == "fp32" else precision)
        asked.append((key, work, 1))
        network_bytes += operator.weight_bytes(key.precision)
    return table.predict(asked, network_bytes)


def layer_latencies(
    model: ir.Model, table: LatencyTable, runtime: str, precisions: Sequence[str] = PRECISIONS
) -> dict[str, dict[str, float]]:
    """By weight and precision: milliseconds of all operators whose precision is that of the weight's layer.

    Such are the layer itself and what stands behind it without a weight of its own. A precision of which something is
    unknown is left out.
    """
    times: dict[str, dict[str, float]] = {}
    unknown, decided = set(), _decided(model)
    for precision in precisions:
        network_bytes = sum(operator.weight_bytes(precision) for operator, _ in decided)
        for operator, weight in decided:
            answer = table.lookup(*_asked(runtime, operator, precision), network_bytes)
            if answer is None:
                unknown.add((weight, precision))
            elif weight:
                of = times.setdefault(weight, {})
                of[precision] = of.get(precision, 0.0) + answer.ms
    return {
        layer.weight: {one: ms for one, ms in times.get(layer.weight, {}).items() if (layer.weight, one) not in unknown}
        for layer in weighted_layers(model)
    }


def deciding(found: Sequence[Operator], weights: Mapping[str, str]) -> dict[str, str]:
    """By operator the weight that decides its precision: its own, or else that of the nearest layer before it.

    `weights` are the layers' by name; an operator in front of all layers has none.
    """
    decided: dict[str, str] = {}
    for operator in found:
        decided[operator.name] = weights.get(operator.name) or decided.get(operator.before, "")
    return decided


def _kernels(model: ir.Model, plan: QuantPlan, flavour: Flavour) -> dict[str, str]:
    layers = fitted(plan, model, flavour).layers
    return {one.weight: kernel(layers[one.weight], one, flavour) for one in weighted_layers(model)}


def _spelled(model: ir.Model, flavour: Flavour) -> ir.Model:
    """As the flavour rewrites a graph before it quantizes it."""
    rewritten = model.clone()
    for form in flavour.forms:
        rewritten = form()(rewritten).model
    return rewritten


def _decided(model: ir.Model) -> list[tuple[Operator, str]]:
    found = operators(model)
    decided = deciding(found, {layer.name: layer.weight for layer in weighted_layers(model)})
    return [(operator, decided[operator.name]) for operator in found]


def _asked(runtime: str, operator: Operator, precision: str) -> tuple[Key, Work]:
    return Key(runtime, operator.kind, operator.shapes, precision), operator.work(precision)
