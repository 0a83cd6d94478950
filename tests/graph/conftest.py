"""Small graphs as text."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest


@pytest.fixture(scope="session")
def parse() -> Callable[..., ir.Model]:
    """A graph in ONNX's text format `(inputs) => (outputs) { nodes }`, with its weights as arrays by name."""

    def parse(text: str, *, opset: int = 17, **weights: Any) -> ir.Model:
        proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> main {text}')
        for name, array in weights.items():
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        return ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))

    return parse


@pytest.fixture(scope="session")
def evaluate() -> Callable[..., np.ndarray]:
    """The first output of a graph, computed."""

    def evaluate(model: ir.Model, **feeds: np.ndarray) -> np.ndarray:
        return ort.InferenceSession(ir.to_proto(model).SerializeToString()).run(None, feeds)[0]

    return evaluate
