"""For OpenVINO the checked ONNX file travels, with the float precision pinned."""

from __future__ import annotations

from pathlib import Path

from edgeprune.backends.backend import Lowered
from edgeprune.backends.onnx_file import checked_copy
from edgeprune.targets.target import Target

HINT = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""What float layers run in; unpinned, OpenVINO takes bfloat16 wherever the CPU has it, also in an FP32 baseline."""


def lower(model_file: Path, target: Target, precision: str, out: Path) -> Lowered:
    """Copy the file and pin `INFERENCE_PRECISION_HINT`."""
    return Lowered({"model": checked_copy(model_file, out)}, {"INFERENCE_PRECISION_HINT": HINT[precision]})
