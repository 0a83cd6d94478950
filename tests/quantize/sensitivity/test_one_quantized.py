import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends import LOAD
from edgeprune.graph.save import write_onnx
from edgeprune.quantize.affine import asymmetric, dequantize, quantize
from edgeprune.quantize.sensitivity.candidates import nearest
from edgeprune.quantize.sensitivity.one_quantized import OneQuantized
from edgeprune.registry import resolve


def answers(model, x, tmp_path) -> np.ndarray:
    write_onnx(model, tmp_path / "model.onnx")
    load = resolve(LOAD, "ort", "backend")
    with load({"model": tmp_path / "model.onnx"}, {}, threads=1, batch=len(x)) as runner:
        return runner.infer({"input": x})["output"]


@pytest.fixture(scope="module")
def x(digits) -> np.ndarray:
    return digits.calibration[:16]


def test_without_a_layer_it_is_the_float_model(digits, x, tmp_path):
    with OneQuantized(digits.model, nearest(digits.model), digits.ranges, batch=16) as graph:
        found = graph.outputs({"input": x})["output"]
    np.testing.assert_allclose(found, answers(digits.model, x, tmp_path), atol=1e-5)


@pytest.mark.parametrize("weight", ["conv2.weight", "dense1.weight"])
def test_one_layer_has_other_weights_and_the_next_run_forgets_them(digits, x, weight, tmp_path):
    candidates, changed = nearest(digits.model), digits.model
    changed.graph.initializers[weight].const_value = ir.tensor(candidates[weight]["int4"])
    with OneQuantized(digits.model, candidates, batch=16) as graph:
        exact = graph.outputs({"input": x})["output"]
        found = graph.outputs({"input": x}, weight, "int4")["output"]
        np.testing.assert_array_equal(graph.outputs({"input": x})["output"], exact)
    np.testing.assert_allclose(found, answers(changed, x, tmp_path), atol=1e-5)
    assert np.abs(found - exact).max() > 0.01


def test_the_layers_input_is_rounded_in_its_range(digits, x, tmp_path):
    candidates, changed = nearest(digits.model), digits.model
    changed.graph.initializers["conv1.weight"].const_value = ir.tensor(candidates["conv1.weight"]["int8"])
    q = asymmetric(digits.ranges["input"])
    with OneQuantized(digits.model, candidates, digits.ranges, batch=16) as graph:
        found = graph.outputs({"input": x}, "conv1.weight", "int8")["output"]
    np.testing.assert_allclose(found, answers(changed, dequantize(quantize(x, q), q), tmp_path), atol=1e-5)
