"""A folder as a worker sees it: a small model and inputs for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

GRAPH = """<ir_version: 10, opset_import: ["" : 20]>
g (float[batch,4] x) => (float[batch,3] y) <float[4,3] w = {1,0,0, 0,1,0, 0,0,1, 1,1,1}> {
  [fc] y = MatMul(x, w)
}"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`model.onnx` and `inputs.npz`: 5 samples of 4 numbers."""
    onnx.save(onnx.parser.parse_model(GRAPH), tmp_path / "model.onnx")
    np.savez(tmp_path / "inputs.npz", x=np.arange(20, dtype=np.float32).reshape(5, 4))
    return tmp_path
