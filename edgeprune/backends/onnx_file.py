"""Check an ONNX file against what every runtime needs of it, and copy it to where it will travel from."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx_ir as ir

from edgeprune.errors import ModelError
from edgeprune.graph.load import read_onnx

MODEL = "model.onnx"


def checked_copy(model_file: Path, out: Path) -> Path:
    """The file as `out`/model.onnx, byte for byte.

    Raises ModelError where evidence could not be told apart (nodes without a name of their own) or a free dimension
    could not be fixed (one without a name), and whatever reading it raises.
    """
    _check_names(read_onnx(model_file), model_file)
    copy = out / MODEL
    shutil.copyfile(model_file, copy)
    return copy


def _check_names(model: ir.Model, path: Path) -> None:
    seen: set[str] = set()
    for node in model.graph:
        if not node.name or node.name in seen:
            raise ModelError(
                f"{path}: two nodes are called '{node.name or ''}' ({node.op_type}): name each differently"
            )
        seen.add(node.name)
    for value in model.graph.inputs:
        if value.shape is None or any(isinstance(size, ir.SymbolicDim) and size.value is None for size in value.shape):
            raise ModelError(f"{path}: input '{value.name}' has a dimension without size or name: call it 'batch'")
