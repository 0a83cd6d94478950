"""For ONNX Runtime the checked ONNX file itself is what travels: it is optimized when it is loaded."""

from __future__ import annotations

from pathlib import Path

from edgeprune.backends.backend import Lowered
from edgeprune.backends.onnx_file import checked_copy
from edgeprune.targets.target import Target


def lower(model_file: Path, target: Target, precision: str, out: Path) -> Lowered:
    """Copy the file. An optimized dump is not kept: it holds layouts of the machine that wrote it."""
    return Lowered({"model": checked_copy(model_file, out)})
