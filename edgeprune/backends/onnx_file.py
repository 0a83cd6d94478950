"""Check an ONNX file against what every runtime needs of it, and copy it to where it will travel from."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx_ir as ir

from edgeprune.errors import ModelError
from edgeprune.graph.load import files_of, read_onnx
from edgeprune.graph.save import write_onnx
from edgeprune.graph.specs import tensor_specs

MODEL = "model.onnx"


def checked_copy(model_file: Path, out: Path) -> Path:
    """The file as `out`/model.onnx, byte for byte; with its tensors in it where they lie beside it.

    Raises ModelError where evidence could not be told apart (nodes without a name of their own), the batch could not be
    fixed (an input without known rank, or one size for the batch and for another dimension) or what goes in and out
    could not be kept by name in one .npz file, and whatever reading it raises.
    """
    model, copy = read_onnx(model_file), out / MODEL
    _check_names(model, model_file)
    if files_of(model_file) == (model_file,):
        shutil.copyfile(model_file, copy)
    else:
        write_onnx(model, copy)
    return copy


def _check_names(model: ir.Model, path: Path) -> None:
    seen: set[str] = set()
    for node in model.graph:
        if not node.name or node.name in seen:
            raise ModelError(
                f"{path}: two nodes are called '{node.name or ''}' ({node.op_type}): name each differently"
            )
        seen.add(node.name)
    border = {str(value.name) for value in (*model.graph.inputs, *model.graph.outputs)}
    for tensor in sorted(border):
        if "\0" in tensor or f"{tensor}.npy" in border:
            beside = sorted(border - {tensor})
            raise ModelError(f"{path}: samples cannot be kept of {tensor!r} beside {beside}: rename it")
    shapes = {value.name: tensor_specs([value])[0].shape for value in model.graph.inputs}
    behind = {size for shape in shapes.values() for size in shape[1:] if isinstance(size, str)}
    for name, shape in shapes.items():
        if shape and shape[0] in behind:
            raise ModelError(
                f"{path}: input '{name}' leads with '{shape[0]}', as a dimension behind the first is called:"
                " rename one of them, for a leading dimension is the batch"
            )
