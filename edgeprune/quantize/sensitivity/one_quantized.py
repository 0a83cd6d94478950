"""Run a float graph with a single layer quantized, whichever it is, without making a graph for each."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends import LOAD
from edgeprune.backends.backend import Feeds, Runner
from edgeprune.graph.layers import PRODUCTS, weighted_layers
from edgeprune.graph.save import write_onnx
from edgeprune.quantize.affine import asymmetric
from edgeprune.quantize.constants import add_qparams, array
from edgeprune.quantize.sensitivity.candidates import Candidates, input_ranges
from edgeprune.quantize.spec import QParams, Range
from edgeprune.registry import resolve


class OneQuantized:
    """A session that takes its weights as inputs; use it in a `with`."""

    def __init__(
        self, model: ir.Model, candidates: Candidates, ranges: Mapping[str, Range] | None = None, *, batch: int
    ) -> None:
        """`ranges`: those of a calibration, where the quantized layer's input is to be rounded too."""
        layers = weighted_layers(model)
        self._candidates = candidates
        self._weights = {layer.weight: layer.weights for layer in layers}
        self._real = {name: array(model.graph.initializers[name]) for layer in layers for name in layer.weights}
        spans = input_ranges(model, ranges or {})
        self._off = {_switch(weight): np.array(False) for weight in spans}
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
            file = Path(folder) / "one_quantized.onnx"
            write_onnx(_with_switches(model, self._real, spans), file)
            self._runner: Runner = resolve(LOAD, "ort", "backend")({"model": file}, {}, threads=1, batch=batch)

    def outputs(self, feeds: Feeds, weight: str | None = None, precision: str = "") -> dict[str, NDArray[Any]]:
        """What the graph answers with the layer of this weight at a precision; in float without one."""
        given = {**feeds, **self._real, **self._off}
        for name in () if weight is None else self._weights[weight]:
            given[name] = self._candidates[name][precision]
        if weight is not None and _switch(weight) in self._off:
            given[_switch(weight)] = np.array(True)
        return self._runner.infer(given)

    def __enter__(self) -> OneQuantized:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.close()


def _switch(weight: str) -> str:
    return f"{weight}/is_quantized"


def _with_switches(model: ir.Model, weights: Mapping[str, NDArray[Any]], spans: Mapping[str, Range]) -> ir.Model:
    """The same graph, told with each run which weights to take and which inputs of layers to round.

    conv(x, w)   becomes   conv(Where(w/is_quantized, DQ(Q(x)), x), w)
    """
    switchable = model.clone()
    graph = switchable.graph
    for name in weights:
        value = graph.initializers.pop(name)
        value.const_value = None
        graph.inputs.append(value)
    layers = [layer for layer in weighted_layers(model) if layer.op in PRODUCTS]
    nodes = {node.name: node for node in graph}
    for weight, span in spans.items():
        switch = ir.val(_switch(weight), ir.DataType.BOOL, [])
        graph.inputs.append(switch)
        for layer in layers:
            if layer.weight == weight:
                _round_input(graph, nodes[layer.name], switch, asymmetric(span))
    return switchable


def _round_input(graph: ir.Graph, node: ir.Node, switch: ir.Value, q: QParams) -> None:
    x = node.inputs[0]
    parameters = add_qparams(graph, f"{node.name}/input", q)
    quantized = ir.node("QuantizeLinear", [x, *parameters])
    restored = ir.node("DequantizeLinear", [quantized.outputs[0], *parameters])
    chosen = ir.node("Where", [switch, restored.outputs[0], x])
    graph.insert_before(node, [quantized, restored, chosen])
    node.replace_input_with(0, chosen.outputs[0])
