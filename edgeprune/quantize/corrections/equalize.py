"""Cross-layer equalization: share the range of a channel between the layer that writes it and the one that reads it.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019. For f(s x) = s f(x),

    W2 f(W1 x + b1) = (W2 S) f(S^-1 W1 x + S^-1 b1),     S = diag(s),     s_i = sqrt(r1_i / r2_i)

with r1_i the range of row i of W1 and r2_i that of column i of W2: both become sqrt(r1_i r2_i). The function of the
network stays as it is; what one scale per tensor or per output channel must span gets smaller.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph.layers import WeightedLayer
from edgeprune.quantize.constants import array, put_constant
from edgeprune.quantize.corrections.bias import BiasPlace, bias_place
from edgeprune.quantize.corrections.matrix import as_weight, matrix, product_layers

ELEMENTWISE = frozenset({"Relu", "LeakyRelu"})
"""Operators with f(s x) = s f(x) for s > 0."""
POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool"})
"""The same, of images only, channel by channel."""
ROUNDS = 20
"""Of going over all pairs: a layer that stands in two is moved by both."""
SETTLED = 1e-3
"""A round that changes no scale by more than this share is the last."""


class Equalize(ir.passes.InPlacePass):
    """Equalize the ranges of every two layers that are joined by one value, read once.

    conv(W1, b1) -> Relu -> conv(W2)   becomes   conv(W1 / s, b1 / s) -> Relu -> conv(W2 s)

    A Clip (ReLU6) breaks a pair, for it does not scale: min(s x, 6) is not s min(x, 6). So do weights that other
    layers read too.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Go over all pairs until their ranges are equal."""
        pairs = _pairs(model)
        for _ in range(ROUNDS):
            if max(map(_equalize, pairs), default=0.0) < SETTLED:
                break
        return ir.passes.PassResult(model, modified=bool(pairs))


@dataclass(frozen=True)
class _Pair:
    """Two layers of which one reads, channel by channel, what the other writes."""

    first: ir.Node
    writes: WeightedLayer
    bias: BiasPlace | None
    second: ir.Node
    reads: WeightedLayer


def _pairs(model: ir.Model) -> list[_Pair]:
    layers = dict(product_layers(model))
    pairs = []
    for node, layer in layers.items():
        bias = bias_place(node, layer)
        if bias is None and layer.op != "MatMul":
            continue
        through = ELEMENTWISE | POOLS if layer.op == "Conv" else ELEMENTWISE
        second = _only_reader(bias.node if bias is not None else node)
        while second is not None and second.op_type in through:
            second = _only_reader(second)
        if second in layers and _fit(layer, layers[second]) and _is_own(node) and _is_own(second):
            pairs.append(_Pair(node, layer, bias, second, layers[second]))
    return pairs


def _equalize(pair: _Pair) -> float:
    """Share one scale a channel out; return by how much the largest one changed."""
    written, read = matrix(_weight(pair.first), pair.writes), _by_input(_weight(pair.second), pair.reads)
    r1, r2 = np.abs(written).max(axis=2).reshape(-1), np.abs(read).max(axis=(1, 3)).reshape(-1)
    # a channel that is always 0 or that nobody reads has no range to share
    s = np.sqrt(np.divide(r1, r2, out=np.ones_like(r1), where=(r1 > 0) & (r2 > 0)))
    written /= s.reshape(*written.shape[:2], 1)
    read *= s.reshape(read.shape[0], 1, read.shape[2], 1)
    put_constant(pair.first, 1, pair.writes.weight, as_weight(written, pair.writes))
    put_constant(pair.second, 1, pair.reads.weight, as_weight(read.reshape(*read.shape[:2], -1), pair.reads))
    if pair.bias is not None and pair.bias.exists:
        pair.bias.put(pair.bias.numbers() / s)
    return float(np.abs(s - 1).max())


def _weight(node: ir.Node) -> NDArray[np.float64]:
    assert node.inputs[1] is not None
    return array(node.inputs[1]).astype(np.float64)


def _by_input(weight: NDArray[np.float64], layer: WeightedLayer) -> NDArray[np.float64]:
    """[groups, C / groups, inputs / groups, positions of the kernel]."""
    grouped = matrix(weight, layer)
    return grouped.reshape(*grouped.shape[:2], _inputs(layer) // layer.groups, -1)


def _fit(first: WeightedLayer, second: WeightedLayer) -> bool:
    """Whether the outputs of one are the inputs of the other: both count them along the same dimension."""
    same = (first.op == "Conv") == (second.op == "Conv")
    return same and first.weight_shape[first.axis] == _inputs(second)


def _inputs(layer: WeightedLayer) -> int:
    return layer.weight_shape[1 - layer.axis] * layer.groups


def _is_own(node: ir.Node) -> bool:
    weight = node.inputs[1]
    return weight is not None and len(weight.uses()) == 1


def _only_reader(node: ir.Node) -> ir.Node | None:
    value = node.outputs[0]
    uses = value.uses()
    return next(iter(uses)).node if len(uses) == 1 and not value.is_graph_output() else None
