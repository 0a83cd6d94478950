"""Write an ONNX file: equal models give equal bytes, and a file appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from edgeprune.errors import ModelError
from edgeprune.graph.load import LIMIT_BYTES
from edgeprune.whole_file import whole


def write_onnx(model: ir.Model, path: Path) -> None:
    """Write `model` as one file. Raises ModelError beyond two gigabytes; OSError where the disk refuses."""
    weights_bytes = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    if weights_bytes > LIMIT_BYTES:
        raise ModelError(f"{path}: {weights_bytes} bytes of weights do not fit one ONNX file (limit {LIMIT_BYTES})")
    with whole(path) as partial:
        partial.write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))
