"""What a graph takes and gives, as the rest of the house speaks of it."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from edgeprune.errors import ModelError
from edgeprune.tensor import TensorSpec


def tensor_specs(values: Iterable[ir.Value]) -> tuple[TensorSpec, ...]:
    """Name, dtype and shape of each value. Raises ModelError where a graph leaves one of them open."""
    return tuple(_spec(value) for value in values)


def _spec(value: ir.Value) -> TensorSpec:
    if value.dtype is None or value.shape is None:
        raise ModelError(f"'{value.name}' has no type or no shape in the graph: export it with shapes")
    sizes = tuple(size if isinstance(size, int) else str(size.value) for size in value.shape)
    return TensorSpec(str(value.name), str(value.dtype.numpy()), sizes)
