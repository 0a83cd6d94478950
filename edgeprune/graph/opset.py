"""Bring a graph to a newer opset."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import version_converter

from edgeprune.errors import ModelError
from edgeprune.graph.load import opset


def at_least(model: ir.Model, version: int) -> ir.Model:
    """The model in this opset of the default domain, or as it is where its own is as new.

    Raises ModelError where an operator cannot be brought there.
    """
    if opset(model) >= version:
        return model
    proto = ir.to_proto(model)
    try:
        raised: ir.Model = ir.from_proto(version_converter.convert_version(proto, version))
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"opset {opset(model)} cannot be brought to {version}: {reason}: export it newer") from error
    return raised
