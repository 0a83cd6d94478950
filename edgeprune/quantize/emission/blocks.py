"""Weights alone in 4 bits, with a scale for each block: what a kernel reads that multiplies by 4-bit weights itself."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph.layers import WeightedLayer
from edgeprune.quantize.affine import SMALLEST_SCALE
from edgeprune.quantize.constants import add_constant, array
from edgeprune.quantize.spec import LIMITS, Rounded

SIZES = (128, 64, 32, 16)
"""Of a block, along the inputs of a layer; 128 is what NVIDIA's own tools take (TensorRT: "Explicit Quantization")."""


def block_size(layer: WeightedLayer) -> int | None:
    """The largest that divides the layer's inputs into two blocks or more; None where there is none.

    A single block is a scale per channel, for which TensorRT has no kernel: its compiler dequantizes at every call.
    """
    inputs = layer.weight_shape[1 - layer.axis]
    return next((size for size in SIZES if inputs % size == 0 and inputs > size), None)


def on_blocks(
    real: NDArray[np.float32], layer: WeightedLayer, rounded: Rounded | None = None
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A weight as integers of 4 bits, and their scales, with K / block in place of K; both in the weight's layout.

    Without `rounded` each number goes to the nearest, and the largest of a block is the largest integer.
    """
    size, axis = block_size(layer), 1 - layer.axis
    assert size is not None
    rows = np.moveaxis((real if rounded is None else rounded.weight).astype(np.float64), axis, -1)  # [C, K]
    blocks = rows.reshape(len(rows), -1, size)
    if rounded is None:
        scale = np.maximum(np.abs(blocks).max(-1) / LIMITS["int4"], SMALLEST_SCALE).astype(np.float32)
    else:
        scale = np.broadcast_to(rounded.scale.reshape(len(rows), -1), blocks.shape[:2])
    integers = np.rint(blocks / scale[..., np.newaxis]).astype(np.int8).reshape(rows.shape)
    return np.moveaxis(integers, -1, axis), np.ascontiguousarray(np.moveaxis(scale, -1, axis))


def from_blocks(integers: NDArray[np.int8], scale: NDArray[np.float32], layer: WeightedLayer) -> NDArray[np.float32]:
    """The real numbers that integers in blocks stand for."""
    axis = 1 - layer.axis
    repeated = np.repeat(scale, integers.shape[axis] // scale.shape[axis], axis)
    real: NDArray[np.float32] = integers.astype(np.float32) * repeated
    return real


def quantize_blocks(graph: ir.Graph, layer: WeightedLayer, rounded: Rounded | None = None) -> None:
    """Give a Gemm or MatMul [K, N] (or [N, K] transposed) weights of 4 bits, and leave its input in float.

    matmul(x, w)   becomes   matmul(x, DQ(int4 w, scale[K / block, N]))
    """
    real, name = graph.initializers[layer.weight], layer.weight
    integers, scale = on_blocks(array(real), layer, rounded)
    del graph.initializers[name]
    packed = np.ascontiguousarray(integers).astype(ml_dtypes.int4)
    restored = ir.val(f"{name}/dequantized", ir.DataType.FLOAT, integers.shape)
    node = ir.node(
        "DequantizeLinear",
        [add_constant(graph, name, packed), add_constant(graph, f"{name}/scale", scale)],
        {"axis": 1 - layer.axis, "block_size": block_size(layer)},
        outputs=[restored],
        name=f"{name}/dequantize",
    )
    graph.insert_before(graph[0], node)
    real.replace_all_uses_with(restored)
