"""Part of a graph: what some of its values need."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir
from onnx_ir.passes import common


def up_to(model: ir.Model, names: Iterable[str]) -> ir.Model:
    """The model with these values as its outputs, and what they need; its inputs stay."""
    partial = model.clone()
    wanted = ir.convenience.create_value_mapping(partial.graph)
    partial.graph.outputs.clear()
    partial.graph.outputs.extend(wanted[name] for name in names)
    return common.RemoveUnusedNodesPass()(partial).model
