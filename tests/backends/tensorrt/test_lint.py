from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgeprune.backends.tensorrt.lint import RULES, lint, oldest_for
from edgeprune.targets.load import load_target

JETSON = load_target("jetson")
INT8, FLOAT = np.int8, np.float32

QDQ = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) {
  [q] q = QuantizeLinear(x, s, z)
  [d] y = DequantizeLinear(q, s, z)
}"""
CONV = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) {{
  [k] k = DequantizeLinear<axis={axis}>(w, s, z)
  [conv] y = {op}(x, k)
}}"""
PER_CHANNEL = {"w": np.ones((4, 4, 1, 1), INT8), "s": np.ones(4, FLOAT), "z": np.zeros(4, INT8)}

BROKEN = {
    "symmetric": (QDQ, {"s": FLOAT(0.1), "z": INT8(3)}),
    "quantized-type": (QDQ, {"s": FLOAT(0.1), "z": np.uint8(0)}),
    "positive-scale": (QDQ, {"s": FLOAT(0), "z": INT8(0)}),
    "per-tensor-activation": (QDQ, {"s": np.ones(4, FLOAT), "z": np.zeros(4, INT8)}),
    "weight-axis": (CONV.format(axis=1, op="Conv"), PER_CHANNEL),
    "float-bias": (
        """g (float[1,4,8,8] x) => (float[1,4,8,8] y) {
          [b] b = DequantizeLinear(ib, s)
          [conv] y = Conv(x, w, b)
        }""",
        {"ib": np.ones(4, np.int32), "s": FLOAT(0.1), "w": np.ones((4, 4, 1, 1), FLOAT)},
    ),
    "no-cast": (
        """g (float[4] x) => (float[4] y) {
          [cast] c = Cast<to=3>(w)
          [k] k = DequantizeLinear(c, s, z)
          [add] y = Add(x, k)
        }""",
        {"w": np.ones(4, np.int32), "s": FLOAT(0.1), "z": INT8(0)},
    ),
    "constant-parameters": (
        """g (float[4] x, float s) => (float[4] y) {
          [q] q = QuantizeLinear(x, s, z)
          [d] y = DequantizeLinear(q, t, z)
        }""",
        {"z": INT8(0), "t": FLOAT(0.1)},
    ),
    "operator": (
        """g (float[4] x) => (float[4] y) {
          [dynamic] q, s, z = DynamicQuantizeLinear(x)
          [cast] y = Cast<to=1>(q)
        }""",
        {},
    ),
}


def rules(path, target=JETSON):
    return [violation.rule for violation in lint(path, target)]


def test_a_symmetric_signed_graph_with_float_biases_passes(signed_model):
    assert lint(signed_model, JETSON) == ()


def test_a_float_graph_passes(float_model):
    assert lint(float_model, JETSON) == ()


def test_the_form_for_x86_is_refused_at_every_quantized_value(unsigned_model):
    assert set(rules(unsigned_model)) == {"quantized-type"}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_each_rule_finds_its_breach_and_no_other_rule_does(write_onnx, rule):
    text, arrays = BROKEN[rule]
    assert set(rules(write_onnx(text, **arrays))) == {rule}


@pytest.mark.parametrize(("op", "axis"), [("Conv", 0), ("ConvTranspose", 1), ("Conv", -4)])
def test_the_axis_that_has_a_kernel_passes(write_onnx, op, axis):
    assert rules(write_onnx(CONV.format(axis=axis, op=op), **PER_CHANNEL)) == []


def test_a_violation_names_the_node_and_what_to_do(write_onnx):
    text, arrays = BROKEN["quantized-type"]
    first = lint(write_onnx(text, **arrays), JETSON)[0]
    assert first.node == "q"
    assert "use an INT8 zero point" in first.text


def test_a_missing_zero_point_means_unsigned_in_onnx(write_onnx):
    text = "g (float[4] x) => (float[4] y) { [q] q = QuantizeLinear(x, s) [d] y = DequantizeLinear(q, s) }"
    assert set(rules(write_onnx(text, s=FLOAT(0.1)))) == {"quantized-type"}


@pytest.mark.parametrize(
    ("tensorrt", "opset", "fits"), [("10.3", 20, True), ("10.3", 21, False), ("10.9", 21, True), ("10.13", 23, True)]
)
def test_the_opset_must_be_one_that_the_assumed_tensorrt_parses(write_onnx, tensorrt, opset, fits):
    target = JETSON.model_copy(update={"assumes": {"tensorrt": tensorrt}})
    path = write_onnx(
        f'<ir_version: 10, opset_import: ["" : {opset}]> g (float[1] x) => (float[1] y) {{ [n] y = Relu(x) }}'
    )
    assert rules(path, target) == ([] if fits else ["opset"])


@pytest.mark.parametrize(("opset", "version"), [(17, "10.0"), (20, "10.0"), (21, "10.9"), (23, "10.13")])
def test_the_oldest_tensorrt_follows_from_the_opset(opset, version):
    assert oldest_for(opset) == version


def test_a_quantized_operator_of_onnx_runtime_is_refused(tmp_path, unsigned_model):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(str(unsigned_model), options, providers=["CPUExecutionProvider"])
    model = onnx.load(options.optimized_model_filepath)
    assert any(node.op_type == "QLinearConv" for node in model.graph.node)
    assert "operator" in rules(tmp_path / "optimized.onnx")
