"""Layers that sparse tensor cores can compute: of each four weights along their inputs two at least are zero.

Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021. GPUs have them from Ampere on. TensorRT takes a sparse
kernel where it is asked to look for one and finds it faster, which its developers saw from some 256 channels on
(NVIDIA/TensorRT#4065).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph.layers import PRODUCTS

CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast"})
"""What may stand between a weight as it is stored and its layer: zeros stay zero, as scales here have no zero point."""


def sparse_layers(model: ir.Model) -> tuple[str, ...]:
    """Nodes by name, in the order they are computed; of a quantized graph too."""
    return tuple(str(node.name) for node in model.graph if node.op_type in PRODUCTS and _is_sparse(node))


def _is_sparse(node: ir.Node) -> bool:
    weight = _stored(node.inputs[1])
    if weight is None or weight.ndim < 2:
        return False
    outputs_first = node.op_type == "Conv" or node.attributes.get_int("transB", 0) == 1
    along = np.moveaxis(weight, 1 if outputs_first else -2, -1)
    if along.shape[-1] % 4 or 2 * np.count_nonzero(along) > along.size:
        return False
    return bool((np.count_nonzero(along.reshape(-1, 4), axis=1) <= 2).all())


def _stored(value: ir.Value | None) -> NDArray[Any] | None:
    while value is not None and value.const_value is None:
        node = value.producer()
        if node is None or node.op_type not in CONVERSIONS:
            return None
        value = node.inputs[0]
    return None if value is None or value.const_value is None else value.const_value.numpy()
