"""A layer as a product of matrices, Y = W X for each group: the form in which its rounding error can be reckoned."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edgeprune.graph.layers import PRODUCTS, WeightedLayer, as_layer


def product_layers(model: ir.Model) -> list[tuple[ir.Node, WeightedLayer]]:
    """Every Conv, Gemm and MatMul with a constant weight, in the order they are computed.

    A Gemm that also scales or transposes what it reads is left out.
    """
    found = [(node, layer) for node in model.graph if (layer := as_layer(node)) is not None]
    return [(node, layer) for node, layer in found if layer.op in PRODUCTS and not _scales(node)]


def columns(x: NDArray[Any], node: ir.Node, layer: WeightedLayer) -> NDArray[Any]:
    """What each output position reads of `x`, the layer's input [N, ...]: [groups, K, positions]."""
    if layer.op != "Conv":
        flat: NDArray[Any] = x.reshape(-1, x.shape[-1]).T[np.newaxis]
        return flat
    windows = _windows(x, node, layer.weight_shape[2:])
    n, channels, *sizes = windows.shape
    spatial = len(sizes) // 2
    grouped = windows.reshape(n, layer.groups, channels // layer.groups, *sizes)
    order = (1, 2, *range(3 + spatial, 3 + 2 * spatial), 0, *range(3, 3 + spatial))
    read: NDArray[Any] = grouped.transpose(order).reshape(layer.groups, int(np.prod(layer.weight_shape[1:])), -1)
    return read


def matrix(weight: NDArray[Any], layer: WeightedLayer) -> NDArray[Any]:
    """A layer's weight as [groups, C / groups, K]."""
    if layer.op != "Conv":
        return np.moveaxis(weight, layer.axis, 0)[np.newaxis]
    return weight.reshape(layer.groups, weight.shape[0] // layer.groups, -1)


def as_weight(matrix: NDArray[Any], layer: WeightedLayer) -> NDArray[Any]:
    """The other way round: [groups, C / groups, K] in the layout of the layer's weight."""
    if layer.op != "Conv":
        return np.ascontiguousarray(np.moveaxis(matrix[0], 0, layer.axis))
    return matrix.reshape(layer.weight_shape)


def _scales(node: ir.Node) -> bool:
    attributes = node.attributes
    factors = (attributes.get_float("alpha", 1.0), attributes.get_float("beta", 1.0))
    return node.op_type == "Gemm" and (factors != (1.0, 1.0) or attributes.get_int("transA", 0) == 1)


def _windows(x: NDArray[Any], node: ir.Node, kernel: tuple[int, ...]) -> NDArray[Any]:
    """A view [N, channels, *positions, *kernel] of padded images [N, channels, *sizes]."""
    ones = [1] * len(kernel)
    strides = list(node.attributes.get_ints("strides", ones))
    dilations = list(node.attributes.get_ints("dilations", ones))
    spans = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    padded = np.pad(x, [(0, 0), (0, 0), *_pads(node, x.shape[2:], spans, strides)])
    windows = sliding_window_view(padded, spans, axis=tuple(range(2, padded.ndim)))
    chosen = (slice(None), slice(None), *(slice(None, None, step) for step in (*strides, *dilations)))
    found: NDArray[Any] = windows[chosen]
    return found


def _pads(node: ir.Node, sizes: tuple[int, ...], spans: list[int], strides: list[int]) -> list[tuple[int, int]]:
    """Zeros in front of and behind each dimension."""
    kind = node.attributes.get_string("auto_pad", "NOTSET")
    if kind in {"NOTSET", "VALID"}:
        given = node.attributes.get_ints("pads", [0] * 2 * len(sizes))
        return list(zip(given[: len(sizes)], given[len(sizes) :], strict=True))
    pads = []
    for size, span, stride in zip(sizes, spans, strides, strict=True):
        total = max(((size - 1) // stride) * stride + span - size, 0)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if kind == "SAME_UPPER" else (more, less))
    return pads
