from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from ml_dtypes import int4

from edgeprune.backends.tensorrt.lint import RULES, lint, oldest_for
from edgeprune.targets.load import load_target

JETSON, THOR = load_target("jetson"), load_target("jetson-thor")  # one parses opsets up to 20, one up to 24
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
    "no-cast-to-float": (
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[b,4] x) => (float[b,2] y) {
          [cast] c = Cast<to=1>(w)
          [scale] k = Mul(c, s)
          [fc] y = MatMul(x, k)
        }""",
        {"w": np.ones((4, 2), INT8), "s": FLOAT(0.1)},
    ),
    "scan-length": (
        """g (float[4] x, int64 n, bool go) => (float[4] last, float[times,4] every) {
          [loop] last, every = Loop(n, go, x) <body = steps (int64 i, bool c, float[4] a)
            => (bool again, float[4] b, float[4] out) {
            [again] again = Identity(c)
            [sum] b = Add(a, a)
            [out] out = Identity(b)
          }>
        }""",
        {},
    ),
    "constant-parameters": (
        """g (float[4] x, float s) => (float[4] y) {
          [q] q = QuantizeLinear(x, s, z)
          [d] y = DequantizeLinear(q, t, z)
        }""",
        {"z": INT8(0), "t": FLOAT(0.1)},
    ),
    "recurrent": (
        """g (float[7,2,3] x) => (float[7,2,2,5] y) {
          [lstm] y = LSTM<hidden_size=5, direction="bidirectional", input_forget=1>(x, w, r)
        }""",
        {"w": np.ones((2, 20, 3), FLOAT), "r": np.ones((2, 20, 5), FLOAT)},
    ),
    "four-bits": (
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[b,4] x) => (float[b,3] y) {
          [k] k = DequantizeLinear<axis=0>(w, s)
          [fc] y = MatMul(x, k)
        }""",
        {"w": np.ones((4, 3), int4), "s": np.ones(4, FLOAT)},
    ),
    "blocked-axis": (
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[b,4,2,2] x) => (float[b,4,2,2] y) {
          [k] k = DequantizeLinear<axis=0, block_size=2>(w, s)
          [add] y = Add(x, k)
        }""",
        {"w": np.ones((4, 4, 2, 2), INT8), "s": np.ones((2, 4, 2, 2), FLOAT)},
    ),
    "four-bit-convolution": (
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[1,4,8,8] x) => (float[1,4,7,7] y) {
          [q] q = QuantizeLinear(x, a, z)
          [d] d = DequantizeLinear(q, a, z)
          [k] k = DequantizeLinear<axis=0>(w, s)
          [conv] y = Conv(d, k)
        }""",
        {"a": FLOAT(0.1), "z": INT8(0), "w": np.ones((4, 4, 2, 2), int4), "s": np.ones(4, FLOAT)},
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
    assert set(rules(write_onnx(text, **arrays), THOR)) == {rule}


@pytest.mark.parametrize(("op", "axis"), [("Conv", 0), ("ConvTranspose", 1), ("Conv", -4)])
def test_the_axis_that_has_a_kernel_passes(write_onnx, op, axis):
    assert rules(write_onnx(CONV.format(axis=axis, op=op), **PER_CHANNEL)) == []


def test_a_violation_names_the_node_and_what_to_do(write_onnx):
    text, arrays = BROKEN["quantized-type"]
    first = lint(write_onnx(text, **arrays), JETSON)[0]
    assert first.node == "q"
    assert "use an INT8 zero point" in first.text


def test_a_loop_that_runs_a_known_number_of_times_passes(write_onnx):
    text = BROKEN["scan-length"][0].replace(", int64 n, bool go)", ", bool go)")
    assert rules(write_onnx(text, n=np.int64(3))) == []


def test_an_8_bit_float_is_refused(write_onnx):
    found = lint(write_onnx(QDQ, s=FLOAT(0.1), z=ml_dtypes.float8_e4m3fn(0)), JETSON)
    assert {one.rule for one in found} == {"quantized-type"}
    assert "FLOAT8E4M3FN is for newer GPUs" in found[0].text


LSTM = """g (int64[7,batch] ids) => (float[7,2,batch,5] y) {{
  [gather] x = Gather(table, ids)
  [lstm] y = LSTM<hidden_size=5, direction="bidirectional"{attributes}>(x, w, r)
}}"""
WORDS = {"table": np.ones((9, 3), FLOAT), "w": np.ones((2, 20, 3), FLOAT), "r": np.ones((2, 20, 5), FLOAT)}
THREE = '"Sigmoid", "Tanh", "Tanh"'


@pytest.mark.parametrize("attributes", ["", f", activations=[{THREE}, {THREE}]"])
def test_token_ids_and_an_lstm_of_the_usual_kind_pass(write_onnx, attributes):
    assert rules(write_onnx(LSTM.format(attributes=attributes), **WORDS)) == []


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        (", layout=1", "layout is 1"),
        (f', activations=[{THREE}, "Sigmoid", "Tanh", "Relu"]', "two directions have different activations"),
    ],
)
def test_an_lstm_of_another_kind_is_named(write_onnx, attributes, said):
    shaped = LSTM.format(attributes=attributes).replace("float[7,2,batch,5] y", "float[a,b,c,d] y")
    (violation,) = lint(write_onnx(shaped, **WORDS), JETSON)
    assert (violation.rule, violation.node, said in violation.text) == ("recurrent", "lstm", True)


@pytest.mark.parametrize(
    ("op", "advice"), [("Gelu", "ONNX's own operators"), ("DynamicQuantizeLSTM", "quantize with QuantizeLinear")]
)
def test_an_operator_of_another_domain_is_named(write_onnx, op, advice):
    text = f"""<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>
    g (float[4] x) => (float[4] y) {{ [odd] y = com.microsoft.{op}(x) }}"""
    (violation,) = lint(write_onnx(text), JETSON)
    assert (violation.rule, violation.node) == ("operator", "odd")
    assert f"TensorRT has no com.microsoft.{op}" in violation.text
    assert advice in violation.text


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


@pytest.mark.parametrize(
    ("shape", "block", "axis", "said"),
    [((4, 6, 2), 2, 1, "in 3 dimensions"), ((3, 2), 0, 0, None), ((8, 2), 4, 0, None), ((8, 3), 4, 0, "is odd")],
)
def test_four_bits_come_in_pairs_and_in_blocks_of_two_dimensions(write_onnx, shape, block, axis, said):
    scales = (
        [size // block if block and i == axis else size for i, size in enumerate(shape)] if block else [shape[axis]]
    )
    form = f"axis={axis}" + (f", block_size={block}" if block else "")
    sizes = ",".join(map(str, shape))
    text = f"""<ir_version: 10, opset_import: ["" : 21]> g (float[{sizes}] x) => (float[{sizes}] y) {{
      [k] k = DequantizeLinear<{form}>(w, s)
      [add] y = Add(x, k)
    }}"""
    found = lint(write_onnx(text, w=np.ones(shape, int4), s=np.ones(scales, FLOAT)), THOR)
    assert [said in one.text for one in found] == ([True] if said else [])
