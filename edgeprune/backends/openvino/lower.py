"""For OpenVINO the checked ONNX file travels, with the float precision pinned and the names of free dimensions."""

from __future__ import annotations

import json
from pathlib import Path

from edgeprune.backends.backend import Lowered
from edgeprune.backends.onnx_file import checked_copy
from edgeprune.graph.load import read_onnx
from edgeprune.graph.specs import tensor_specs
from edgeprune.targets.target import Target

HINT = {"fp32": "f32", "bf16": "bf16", "int8": "f32", "mixed": "f32", "int4": "f32"}
"""What float layers run in; unpinned, OpenVINO takes bfloat16 wherever the CPU has it, also in an FP32 baseline."""


def lower(model_file: Path, target: Target, precision: str, out: Path) -> Lowered:
    """Copy the file and pin `INFERENCE_PRECISION_HINT`.

    Where two dimensions of one name get different sizes, OpenVINO computes something all the same; and it forgets the
    names when it reads the file, so `dimensions` keeps them for its runner to check.
    """
    copy, options = checked_copy(model_file, out), {"INFERENCE_PRECISION_HINT": HINT[precision]}
    inputs = tensor_specs(read_onnx(copy).graph.inputs)
    if free := {one.name: one.shape for one in inputs if any(isinstance(size, str) for size in one.shape[1:])}:
        options["dimensions"] = json.dumps(free)
    return Lowered({"model": copy}, options)
