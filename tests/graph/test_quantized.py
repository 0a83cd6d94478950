"""On files of ONNX Runtime's own quantizer, which leaves out every ReLU and Clip that Q cuts off as well."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from edgeprune.errors import ModelError
from edgeprune.graph.cleanup import clean
from edgeprune.graph.load import read_onnx
from edgeprune.graph.quantized import given_layers, is_quantized, strip

RNG = np.random.default_rng(0)
NETWORK = """<ir_version: 8, opset_import: ["" : 17]>
network (float[batch, 3, 8, 8] x) => (float[batch, 5] y) {
  [Conv_0] a = Conv<pads = [1, 1, 1, 1]>(x, first, first_bias)
  [Relu_1] b = Relu(a)
  [Conv_2] c = Conv(b, second, second_bias)
  [Clip_3] d = Clip(c, low, high)
  [MaxPool_4] e = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(d)
  [Flatten_5] f = Flatten(e)
  [Gemm_6] g = Gemm<transB = 1>(f, third, third_bias)
  [Relu_7] h = Relu(g)
  [MatMul_8] y = MatMul(h, fourth)
}"""
SHAPES = {"first": (8, 3, 3, 3), "second": (8, 8, 1, 1), "third": (12, 128), "fourth": (12, 5)}
LAYERS = [("first", "Conv"), ("second", "Conv"), ("third", "Gemm"), ("fourth", "MatMul")]
FORMS = {
    "unsigned": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True},
    "signed": {
        "activation_type": QuantType.QInt8,
        "weight_type": QuantType.QInt8,
        "extra_options": {"ActivationSymmetric": True, "QuantizeBias": False},
    },
}


class Samples(CalibrationDataReader):
    def __init__(self) -> None:
        self._left = iter([{"x": samples(8, seed)} for seed in range(4)])

    def get_next(self):
        return next(self._left, None)


def samples(count, seed):
    return np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def float_file(tmp_path_factory):
    random = np.random.default_rng(0)
    proto = onnx.parser.parse_model(NETWORK)
    arrays = {"low": np.float32(0), "high": np.float32(6)}
    for name, shape in SHAPES.items():
        arrays[name] = random.normal(0, 0.5, shape).astype(np.float32)
        arrays[f"{name}_bias"] = random.normal(0, 0.5, shape[0]).astype(np.float32)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in arrays.items() if n != "fourth_bias")
    path = tmp_path_factory.mktemp("given") / "float.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module", params=FORMS)
def qdq_file(request, float_file):
    path = float_file.with_name(f"{request.param}.onnx")
    logging.disable(logging.WARNING)
    quantize_static(float_file, path, Samples(), quant_format=QuantFormat.QDQ, **FORMS[request.param])
    logging.disable(logging.NOTSET)
    return path


def run(model, x, optimize=False):
    """Optimized, ONNX Runtime rounds the input of a MatMul whose weight alone is quantized."""
    options = ort.SessionOptions()
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(ir.to_proto(model).SerializeToString(), options).run(None, {"x": x})[0]


def test_pairs_are_told(float_file, qdq_file):
    assert not is_quantized(read_onnx(float_file))
    assert is_quantized(read_onnx(qdq_file))


@pytest.mark.parametrize("optimize", [False, True])
def test_a_given_file_that_is_kept_keeps_its_numbers_bit_for_bit(qdq_file, optimize):
    given = read_onnx(qdq_file)
    kept = clean(given, keep_quantized=True)
    x = samples(16, 9)
    np.testing.assert_array_equal(run(kept, x, optimize), run(given, x, optimize))


def test_what_was_stripped_is_the_network_before_it_was_quantized(qdq_file, float_file):
    stripped, original = clean(strip(read_onnx(qdq_file))), clean(read_onnx(float_file))
    assert [node.op_type for node in stripped.graph] == [node.op_type for node in original.graph]
    for name in SHAPES:
        found, right = (model.graph.initializers[name].const_value.numpy() for model in (stripped, original))
        assert np.abs(found - right).max() <= np.abs(right).max() / 127 / 2 * 1.001  # half a step
    x = samples(16, 9)
    noise = np.abs(run(stripped, x) - run(original, x)).max()
    assert noise < 0.05 * np.abs(run(original, x)).max()


def test_the_given_model_is_left_as_it_was(qdq_file):
    given = read_onnx(qdq_file)
    before = ir.to_proto(given).SerializeToString(deterministic=True)
    strip(given)
    assert ir.to_proto(given).SerializeToString(deterministic=True) == before


def test_the_layers_of_both_have_the_same_names(qdq_file):
    given = read_onnx(qdq_file)
    layers = given_layers(clean(given, keep_quantized=True))
    assert [(layer.name, layer.op, layer.precision) for layer in layers] == [(*layer, "int8") for layer in LAYERS]
    floats = given_layers(clean(strip(given)))
    assert [(layer.name, layer.op, layer.precision) for layer in floats] == [(*layer, "fp32") for layer in LAYERS]


def test_a_layer_that_was_left_out_is_in_float(float_file, tmp_path):
    logging.disable(logging.WARNING)
    exclude = {"nodes_to_exclude": ["Conv_2"], "quant_format": QuantFormat.QDQ}
    quantize_static(float_file, tmp_path / "q.onnx", Samples(), **exclude, **FORMS["unsigned"])
    logging.disable(logging.NOTSET)
    layers = given_layers(read_onnx(tmp_path / "q.onnx"))
    assert [layer.precision for layer in layers] == ["int8", "fp32", "int8", "int8"]
    assert layers[1].reason == "the given file has a uint8 input and float weights"


def test_weights_alone_in_integers_are_computed_in_float(parse):
    text = "(float[N, 4] x) => (float[N, 2] y) { k = DequantizeLinear(w, s)  [fc] y = MatMul(x, k) }"
    model = parse(text, w=RNG.integers(-127, 127, (4, 2), np.int8), s=np.float32(0.1))
    (layer,) = given_layers(model)
    assert (layer.precision, layer.reason) == ("fp32", "the given file has a float input and int8 weights")


@pytest.mark.parametrize("form", ["operators", "dynamic"])
def test_forms_without_pairs_are_refused_by_node_with_what_to_give(float_file, tmp_path, form):
    path = tmp_path / "q.onnx"
    logging.disable(logging.WARNING)
    if form == "dynamic":
        quantize_dynamic(float_file, path, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
    else:
        quantize_static(float_file, path, Samples(), quant_format=QuantFormat.QOperator, **FORMS["unsigned"])
    logging.disable(logging.NOTSET)
    with pytest.raises(ModelError, match=r"node '.+' \(\w+\) is an operator on integers: give the float model, or one"):
        is_quantized(read_onnx(path))


X = "(float[N, 4] x) => (float[N, 4] y)"


@pytest.mark.parametrize(
    ("text", "arrays", "said"),
    [
        (f"{X} {{ m = ReduceMax<keepdims = 0>(x)  [q] i = QuantizeLinear(x, m, z)  y = DequantizeLinear(i, m, z) }}",
         {"z": np.int8(0)}, "node 'q'.*scale that is computed"),
        (f"{X} {{ i = QuantizeLinear(x, s, z)  [d] y = DequantizeLinear(i, t, z) }}",
         {"s": np.float32(1), "t": np.float32(2), "z": np.int8(0)}, "node 'd'.*other parameters"),
        ("(uint8[N, 4] x) => (float[N, 4] y) { [d] y = DequantizeLinear(x, s, z) }",
         {"s": np.float32(1), "z": np.uint8(0)}, "node 'd'.*float inputs"),
        ("(float[N, 4] x) => (float[N, 4] y, int8[N, 4] i) { i = QuantizeLinear(x, s, z)"
         "  [d] y = DequantizeLinear(i, s, z) }",
         {"s": np.float32(1), "z": np.int8(0)}, "node 'd'.*float outputs"),
    ],
)  # fmt: skip
def test_what_cannot_be_undone_is_refused_by_node(parse, text, arrays, said):
    with pytest.raises(ModelError, match=said):
        strip(parse(text, **arrays))


def test_integers_may_be_moved_before_they_are_floats_again(parse, evaluate):
    text = f"""{X} {{ i = QuantizeLinear(x, s, z)  j = Reshape(i, two)  k = Transpose(j)
    f = DequantizeLinear(k, s, z)  back = Transpose(f)  y = Reshape(back, four) }}"""
    arrays = {"two": np.array([-1, 2]), "four": np.array([-1, 4]), "s": np.float32(0.01), "z": np.int8(0)}
    stripped = clean(strip(parse(text, **arrays)))
    x = RNG.uniform(-1, 1, (3, 4)).astype(np.float32)
    np.testing.assert_array_equal(evaluate(stripped, x=x), x)


def test_weights_that_are_kept_in_float_stay_as_they_are(parse):
    text = f"{X} {{ i = QuantizeLinear(w, s, z)  k = DequantizeLinear(i, s, z)  y = MatMul(x, k) }}"
    w = RNG.normal(size=(4, 4)).astype(np.float32)
    stripped = clean(strip(parse(text, w=w, s=np.float32(0.1), z=np.int8(0))))
    np.testing.assert_array_equal(stripped.graph.initializers["w"].const_value.numpy(), w)


@pytest.mark.parametrize(("axis", "scale"), [(0, [1, 2, 3, 4]), (1, [1, 2]), (-1, [1, 2])])
def test_weights_have_a_scale_and_a_zero_point_per_channel(parse, axis, scale):
    text = f"(float[N, 4] x) => (float[N, 2] y) {{ k = DequantizeLinear<axis = {axis}>(w, s, z)  y = MatMul(x, k) }}"
    arrays = {"s": np.array(scale, np.float32), "z": np.arange(len(scale)).astype(np.int8)}
    model = parse(text, w=RNG.integers(-127, 127, (4, 2), np.int8), **arrays)
    x = RNG.normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_allclose(run(strip(model), x), run(model, x), rtol=1e-5)


def test_weights_have_a_scale_per_block(parse):
    text = f"{X} {{ k = DequantizeLinear<axis = 0, block_size = 2>(w, s)  y = MatMul(x, k) }}"
    arrays = {"w": RNG.integers(-8, 8, (4, 4), np.int8), "s": RNG.uniform(0.1, 1, (2, 4)).astype(np.float32)}
    model = parse(text, opset=21, **arrays)
    x = RNG.normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_allclose(run(strip(model), x), run(model, x), rtol=1e-5)
