"""Weights alone in 4 bits, with a scale for each block: what a kernel reads that multiplies by 4-bit weights itself."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from edgeprune.graph.layers import WeightedLayer
from edgeprune.quantize.affine import SMALLEST_SCALE
from edgeprune.quantize.constants import add_constant, array
from edgeprune.quantize.spec import LIMITS

SIZES = (128, 64, 32, 16)
"""Of a block, along the inputs of a layer; 128 is what NVIDIA's own tools take (TensorRT: "Explicit Quantization")."""


def block_size(layer: WeightedLayer) -> int | None:
    """The largest that divides the layer's inputs into two blocks or more; None where there is none.

    A single block is a scale per channel, for which TensorRT has no kernel: its compiler dequantizes at every call.
    """
    inputs = layer.weight_shape[1 - layer.axis]
    return next((size for size in SIZES if inputs % size == 0 and inputs > size), None)


def quantize_blocks(graph: ir.Graph, layer: WeightedLayer) -> None:
    """Give a Gemm or MatMul [K, N] (or [N, K] transposed) weights of 4 bits, and leave its input in float.

    matmul(x, w)   becomes   matmul(x, DQ(int4 w, scale[K / block, N]))
    """
    real, size, axis = graph.initializers[layer.weight], block_size(layer), 1 - layer.axis
    assert size is not None
    numbers = array(real).astype(np.float64)
    rows = np.moveaxis(numbers, axis, -1)  # [N, K]
    blocks = rows.reshape(len(rows), -1, size)
    scale = np.maximum(np.abs(blocks).max(-1) / LIMITS["int4"], SMALLEST_SCALE).astype(np.float32)
    integers = np.rint(blocks / scale[..., None]).reshape(rows.shape)
    packed = np.ascontiguousarray(np.moveaxis(integers, -1, axis)).astype(ml_dtypes.int4)

    name = layer.weight
    del graph.initializers[name]
    scales = add_constant(graph, f"{name}/scale", np.ascontiguousarray(np.moveaxis(scale, -1, axis)))
    restored = ir.val(f"{name}/dequantized", ir.DataType.FLOAT, numbers.shape)
    node = ir.node(
        "DequantizeLinear",
        [add_constant(graph, name, packed), scales],
        {"axis": axis, "block_size": size},
        outputs=[restored],
        name=f"{name}/dequantize",
    )
    graph.insert_before(graph[0], node)
    real.replace_all_uses_with(restored)
