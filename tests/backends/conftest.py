"""A small convolutional network as ONNX files: in float, and quantized with unsigned or signed activations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeprune.bundle import LayerPlan

FLOAT = """<ir_version: 10, opset_import: ["" : 20]>
network (float[batch,1,8,8] x) => (float[batch,10] y) {
  [conv1] c1 = Conv<pads=[1,1,1,1]>(x, w1, b1)
  [relu1] r1 = Relu(c1)
  [conv2] c2 = Conv<pads=[1,1,1,1]>(r1, w2, b2)
  [relu2] r2 = Relu(c2)
  [pool] p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r2)
  [flat] f = Flatten(p)
  [fc1] g = Gemm<transB=1>(f, w3, b3)
  [relu3] h = Relu(g)
  [fc2] y = MatMul(h, w4)
}"""

QUANTIZED = """<ir_version: 10, opset_import: ["" : 20]>
network (float[batch,1,8,8] x) => (float[batch,10] y) {
  [q0] q0 = QuantizeLinear(x, sx, z)
  [d0] d0 = DequantizeLinear(q0, sx, z)
  [k1] k1 = DequantizeLinear<axis=0>(w1, w1_scale, w1_zero)
  [conv1] c1 = Conv<pads=[1,1,1,1]>(d0, k1, b1)
  [relu1] r1 = Relu(c1)
  [q1] q1 = QuantizeLinear(r1, sr, z)
  [d1] d1 = DequantizeLinear(q1, sr, z)
  [k2] k2 = DequantizeLinear<axis=0>(w2, w2_scale, w2_zero)
  [conv2] c2 = Conv<pads=[1,1,1,1]>(d1, k2, b2)
  [relu2] r2 = Relu(c2)
  [q2] q2 = QuantizeLinear(r2, sr, z)
  [d2] d2 = DequantizeLinear(q2, sr, z)
  [pool] p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(d2)
  [q3] q3 = QuantizeLinear(p, sr, z)
  [d3] d3 = DequantizeLinear(q3, sr, z)
  [flat] f = Flatten(d3)
  [q4] q4 = QuantizeLinear(f, sr, z)
  [d4] d4 = DequantizeLinear(q4, sr, z)
  [k3] k3 = DequantizeLinear<axis=0>(w3, w3_scale, w3_zero)
  [fc1] g = Gemm<transB=1>(d4, k3, b3)
  [relu3] h = Relu(g)
  [q5] q5 = QuantizeLinear(h, sr, z)
  [d5] d5 = DequantizeLinear(q5, sr, z)
  [k4] k4 = DequantizeLinear<axis=1>(w4, w4_scale, w4_zero)
  [fc2] y = MatMul(d5, k4)
}"""

Write = Callable[..., Path]


@pytest.fixture
def write_onnx(tmp_path: Path) -> Write:
    """Write a graph in ONNX's own text form, with the named arrays as initializers."""

    def write(text: str, name: str = "model.onnx", **arrays: Any) -> Path:
        if not text.startswith("<"):
            text = '<ir_version: 10, opset_import: ["" : 20]>\n' + text
        model = onnx.parser.parse_model(text)
        model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items())
        path = tmp_path / name
        onnx.save(model, path)
        return path

    return write


def weights() -> dict[str, Any]:
    """Output channels in multiples of 16, so that ONNX Runtime takes its blocked layout for the convolutions."""
    random = np.random.default_rng(0)
    shapes = {"w1": (16, 1, 3, 3), "w2": (16, 16, 3, 3), "w3": (32, 256), "w4": (32, 10)}
    drawn = {name: random.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    return drawn | {f"b{i}": random.normal(0, 0.1, n).astype(np.float32) for i, n in ((1, 16), (2, 16), (3, 32))}


def quantized(zero: np.uint8 | np.int8) -> dict[str, Any]:
    arrays = weights()
    for name, axis in (("w1", 0), ("w2", 0), ("w3", 0), ("w4", 1)):
        weight = np.moveaxis(arrays[name], axis, 0)
        scale = np.abs(weight).reshape(len(weight), -1).max(1) / 127
        rounded = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
        arrays |= {
            name: np.moveaxis(rounded, 0, axis),
            f"{name}_scale": scale,
            f"{name}_zero": np.zeros_like(scale, np.int8),
        }
    return arrays | {"sx": np.float32(1 / 127), "sr": np.float32(2 / 127), "z": zero}


@pytest.fixture
def float_model(write_onnx: Write) -> Path:
    return write_onnx(FLOAT, "float.onnx", **weights())


@pytest.fixture
def unsigned_model(write_onnx: Write) -> Path:
    """The form x86 kernels want; inputs are not negative."""
    return write_onnx(QUANTIZED, "unsigned.onnx", **quantized(np.uint8(0)))


@pytest.fixture
def signed_model(write_onnx: Write) -> Path:
    """The form TensorRT wants."""
    return write_onnx(QUANTIZED, "signed.onnx", **quantized(np.int8(0)))


@pytest.fixture
def sparse_model(write_onnx: Write) -> Path:
    """The same with two zeros in each four weights along the inputs, but for the first layer, which has one input."""
    arrays = quantized(np.int8(0))
    for name, inputs in (("w2", 1), ("w3", 1), ("w4", 0)):
        along = np.moveaxis(arrays[name], inputs, 0)
        along[1::4] = along[2::4] = 0
    return write_onnx(QUANTIZED, "sparse.onnx", **arrays)


def plans(precision: str, *precisions: str) -> tuple[LayerPlan, ...]:
    """The four layers, all in one precision or each in its own."""
    layers = (("conv1", "Conv", "w1"), ("conv2", "Conv", "w2"), ("fc1", "Gemm", "w3"), ("fc2", "MatMul", "w4"))
    each = (precision, *precisions) if precisions else (precision,) * 4
    return tuple(LayerPlan(*layer, p) for layer, p in zip(layers, each, strict=True))


@pytest.fixture(name="plans")
def plans_fixture() -> Callable[..., tuple[LayerPlan, ...]]:
    return plans


@pytest.fixture
def x() -> Any:
    """One input, [1, 1, 8, 8], in [0, 1]."""
    return np.random.default_rng(1).random((1, 1, 8, 8), np.float32)
