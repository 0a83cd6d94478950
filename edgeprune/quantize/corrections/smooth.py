"""SmoothQuant: move outliers from what a normalization gives into the weights of the layers that read it.

Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models", 2023:

    Y = (X diag(s)^-1) (diag(s) W),     s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)

A few channels of X are many times larger than the others and take nearly all of the 8 bits of one scale for the whole
tensor; weights have a scale for each output channel and bear it. Each input channel of the layers behind one
normalization has one s_j, with the maximum over all their weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends.backend import Feeds
from edgeprune.graph.layers import WeightedLayer
from edgeprune.quantize.constants import add_constant, array, put_constant
from edgeprune.quantize.corrections.matrix import as_weight, matrix, product_layers
from edgeprune.quantize.stream import values

ALPHA = 0.5
"""How much of an outlier goes into the weights: the paper's choice."""


def normalized_maxima(model: ir.Model, batches: Iterable[Feeds]) -> dict[str, NDArray[np.float32]]:
    """By value: the largest magnitude [C] that each channel of what `Smooth` can smooth takes on these samples."""
    names = [str(found.norm.outputs[0].name) for found in _smoothable(model)]
    maxima: dict[str, NDArray[np.float32]] = {}
    for batch in values(model, names, batches):
        for name, x in batch.items():
            largest = np.abs(x).reshape(-1, x.shape[-1]).max(axis=0)
            maxima[name] = np.maximum(maxima.get(name, 0), largest)
    return maxima


class Smooth(ir.passes.InPlacePass):
    """Divide what normalizations give by s and multiply by it the weights that read it.

    LayerNormalization(x, g, b) -> MatMul(W)   becomes   LayerNormalization(x, g / s, b / s) -> MatMul(diag(s) W)

    Whatever else reads it, as the sum around attention does in BERT, reads it behind one Mul with s.
    """

    def __init__(self, maxima: Mapping[str, NDArray[np.float32]], alpha: float = ALPHA) -> None:
        """`maxima`: what `normalized_maxima` found, on samples that stand for all."""
        super().__init__()
        self.maxima, self.alpha = maxima, alpha

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Smooth behind every normalization."""
        found = [one for one in _smoothable(model) if one.norm.outputs[0].name in self.maxima]
        for one in found:
            _smooth(one, self.maxima[str(one.norm.outputs[0].name)], self.alpha)
        return ir.passes.PassResult(model, modified=bool(found))


@dataclass(frozen=True)
class _Smoothable:
    """A normalization, and the layers that read it."""

    norm: ir.Node
    layers: tuple[tuple[ir.Node, WeightedLayer], ...]


def _smoothable(model: ir.Model) -> list[_Smoothable]:
    """Normalizations over the last dimension that layers with weights of their own read."""
    layers = dict(product_layers(model))
    found = []
    for node in model.graph:
        if node.op_type == "LayerNormalization" and _has_constants(node) and not node.outputs[0].is_graph_output():
            readers = [(use.node, layers[use.node]) for use in node.outputs[0].uses() if use.node in layers]
            own = tuple((reader, layer) for reader, layer in readers if len(_weight(reader).uses()) == 1)
            found += [_Smoothable(node, own)] if own else []
    return found


def _smooth(found: _Smoothable, x_max: NDArray[np.float32], alpha: float) -> None:
    norm, value = found.norm, found.norm.outputs[0]
    w_max = np.max(
        [np.abs(matrix(array(_weight(node)), layer)).max(axis=(0, 1)) for node, layer in found.layers], axis=0
    )
    alive = (x_max > 0) & (w_max > 0)
    s = np.where(alive, x_max**alpha / np.where(alive, w_max, 1) ** (1 - alpha), 1).astype(np.float32)
    for index, what in ((1, "scale"), (2, "bias")):
        if index < len(norm.inputs) and (old := norm.inputs[index]) is not None:
            put_constant(norm, index, f"{norm.name}/smooth_{what}", array(old) / s)
    smoothed = {node for node, _ in found.layers}
    others = [use for use in value.uses() if use.node not in smoothed]
    for node, layer in found.layers:
        scaled = as_weight(matrix(array(_weight(node)), layer) * s, layer)
        put_constant(node, 1, layer.weight, scaled)
    if others:
        graph = norm.graph
        assert graph is not None
        restored = ir.val(f"{value.name}/restored", value.dtype, value.shape)
        factor = add_constant(graph, f"{norm.name}/smoothing", s)
        graph.insert_after(norm, ir.node("Mul", [value, factor], outputs=[restored], name=f"{norm.name}/restore"))
        for node, index in others:
            node.replace_input_with(index, restored)


def _has_constants(norm: ir.Node) -> bool:
    axis, value = norm.attributes.get_int("axis", -1), norm.inputs[0]
    last = axis == -1 or (value is not None and value.shape is not None and axis == len(value.shape) - 1)
    return last and all(value is not None and value.const_value is not None for value in norm.inputs[1:])


def _weight(node: ir.Node) -> ir.Value:
    assert node.inputs[1] is not None
    return node.inputs[1]
