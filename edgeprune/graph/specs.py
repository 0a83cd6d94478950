"""What a graph takes and gives, as the rest of the house speaks of it."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from edgeprune.errors import ModelError
from edgeprune.tensor import TensorSpec


def tensor_specs(values: Iterable[ir.Value]) -> tuple[TensorSpec, ...]:
    """Name, dtype and shape of each value; a free dimension without a name is called `<value>_<axis>`.

    Raises ModelError where a graph leaves type or shape open, and for what is no tensor of numbers.
    """
    return tuple(_spec(value) for value in values)


def _spec(value: ir.Value) -> TensorSpec:
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        raise ModelError(f"'{value.name}' is no tensor ({value.type}): export tensors only")
    if value.dtype is None or value.shape is None:
        raise ModelError(f"'{value.name}' has no type or no shape in the graph: export it with shapes")
    if value.dtype in (ir.DataType.STRING, ir.DataType.UNDEFINED):
        raise ModelError(f"'{value.name}' holds {value.dtype}: only numbers can go in and out")
    sizes = (size if isinstance(size, int) else size.value or f"{value.name}_{i}" for i, size in enumerate(value.shape))
    return TensorSpec(str(value.name), str(value.dtype.numpy()), tuple(sizes))
