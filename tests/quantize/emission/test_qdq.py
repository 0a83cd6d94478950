from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from edgeprune.backends import EFFECTIVE, LOAD
from edgeprune.backends.backend import Runner
from edgeprune.bundle import LayerPlan
from edgeprune.errors import ConfigError, MissingError
from edgeprune.export.to_onnx import export
from edgeprune.graph.cleanup import clean
from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.load import read_onnx
from edgeprune.graph.save import write_onnx
from edgeprune.metrics import agreement, snr_db, top1
from edgeprune.models.zoo import build, specs_of
from edgeprune.quantize.calibrate import calibrate
from edgeprune.quantize.emission.flavour import FLAVOURS
from edgeprune.quantize.emission.qdq import emit
from edgeprune.quantize.plan import uniform_plan
from edgeprune.quantize.spec import LayerQuant, QuantPlan, Range
from edgeprune.registry import resolve

OPTIONS = {"ort": {}, "openvino": {"INFERENCE_PRECISION_HINT": "f32"}}
EVERY_FLAVOUR = pytest.mark.parametrize("flavour", FLAVOURS)
RNG = np.random.default_rng(0)

RESIDUAL = """(float[batch, 3, 8, 8] input) => (float[batch, 4, 4, 4] output) {
  [stem] a = Conv<pads = [1, 1, 1, 1]>(input, w1, b1)
  [stem_relu] b = Relu(a)
  p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(b)
  [branch] c = Conv<pads = [1, 1, 1, 1]>(p, w2, b2)
  s = Add(c, p)
  [sum_relu] r = Relu(s)
  [last] output = Conv(r, w3)
}"""
SHAPES = {"w1": (4, 3, 3, 3), "b1": (4,), "w2": (4, 4, 3, 3), "b2": (4,), "w3": (4, 4, 1, 1)}


@dataclass(frozen=True)
class Subject:
    """A float model with all that it takes to quantize it."""

    model: ir.Model
    ranges: dict[str, Range]
    x: np.ndarray


def calibrated(model: ir.Model, x: np.ndarray, folder: Path) -> Subject:
    write_onnx(model, folder / "float.onnx")
    return Subject(model, calibrate(folder / "float.onnx", [{"input": x}]), x)


@pytest.fixture(scope="module")
def residual(parse, tmp_path_factory) -> Subject:
    weights = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    x = RNG.normal(size=(16, 3, 8, 8)).astype(np.float32)
    return calibrated(clean(parse(RESIDUAL, **weights)), x, tmp_path_factory.mktemp("residual"))


def quantized(subject, flavour: str) -> ir.Model:
    return emit(subject.model, uniform_plan(subject.model, "int8"), subject.ranges, FLAVOURS[flavour])


def array(value: ir.Value) -> np.ndarray:
    assert value.const_value is not None
    return value.const_value.numpy()


def run(model: ir.Model, x: np.ndarray, folder: Path, options: dict[str, str]) -> np.ndarray:
    write_onnx(model, folder / "m.onnx")
    with resolve(LOAD, "ort", "backend")({"model": folder / "m.onnx"}, options, threads=1, batch=len(x)) as runner:
        (output,) = runner.infer({"input": x}).values()
    return output


def opened(runtime: str, model: ir.Model, folder: Path) -> Runner:
    write_onnx(model, folder / "m.onnx")
    try:
        return resolve(LOAD, runtime, "backend")({"model": folder / "m.onnx"}, OPTIONS[runtime], threads=1, batch=1)
    except MissingError as error:
        pytest.skip(str(error))


@EVERY_FLAVOUR
def test_the_file_is_valid_onnx_that_tensorrt_10_3_can_read(residual, flavour):
    model = quantized(residual, flavour)
    assert model.opset_imports == {"": 20}
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


@EVERY_FLAVOUR
def test_each_weight_becomes_int8_under_its_own_name_and_nodes_keep_theirs(residual, flavour):
    model = quantized(residual, flavour)
    initializers = model.graph.initializers
    assert [initializers[layer.weight].dtype for layer in weighted_layers(residual.model)] == [ir.DataType.INT8] * 3
    added = {"QuantizeLinear", "DequantizeLinear"}
    assert [n.name for n in model.graph if n.op_type not in added] == [n.name for n in residual.model.graph]


@EVERY_FLAVOUR
def test_equal_inputs_give_equal_bytes_and_the_float_model_is_left_alone(residual, flavour):
    before = ir.to_proto(residual.model).SerializeToString()
    first, second = (ir.to_proto(quantized(residual, flavour)).SerializeToString() for _ in range(2))
    assert first == second
    assert ir.to_proto(residual.model).SerializeToString() == before


@EVERY_FLAVOUR
def test_onnx_runtime_computes_what_the_reference_says_to_within_a_step(residual, flavour, tmp_path):
    model = quantized(residual, flavour)
    x = residual.x[:2]
    (expected,) = ReferenceEvaluator(ir.to_proto(model)).run(None, {"input": x})
    found = run(model, x, tmp_path, {"graph_optimization": "disable"})
    step = float(array(model.graph.initializers["output/scale"]))
    assert np.abs(found - expected).max() <= step * 1.001


@EVERY_FLAVOUR
def test_quantization_is_a_small_disturbance(residual, flavour, tmp_path):
    # uniform noise of half a step in 8 bits is 6.02 * 8 - 10.8 dB below a full-range signal, about 37; it adds up
    options = {"graph_optimization": "disable"}
    expected = run(residual.model, residual.x, tmp_path, options)
    assert snr_db(expected, run(quantized(residual, flavour), residual.x, tmp_path, options)) > 25


@pytest.mark.parametrize("flavour", ["ort", "tensorrt"])
def test_a_pool_writes_in_the_scale_it_reads_in(residual, flavour):
    model = quantized(residual, flavour)
    (pool,) = (node for node in model.graph if node.op_type == "MaxPool")
    (after,) = pool.outputs[0].consumers()
    assert list(after.inputs[1:]) == list(pool.inputs[0].producer().inputs[1:])


def test_openvino_is_left_to_see_through_a_pool(residual):
    (pool,) = (node for node in quantized(residual, "openvino").graph if node.op_type == "MaxPool")
    assert pool.inputs[0].producer().op_type == "DequantizeLinear"
    assert {reader.op_type for reader in pool.outputs[0].consumers()} == {"Conv", "Add"}


@EVERY_FLAVOUR
def test_a_relu_is_never_cut_off_from_what_it_belongs_to(residual, flavour):
    for node in quantized(residual, flavour).graph:
        if node.op_type == "Relu":
            assert node.inputs[0].producer().op_type in {"Conv", "Add"}
            assert [reader.op_type for reader in node.outputs[0].consumers()] == ["QuantizeLinear"]


def test_onnx_runtime_gets_unsigned_activations_that_start_at_zero_behind_a_relu(residual):
    initializers = quantized(residual, "ort").graph.initializers
    points = {name: array(value) for name, value in initializers.items() if name.endswith("/zero_point")}
    assert {points[name].dtype for name in ("input/zero_point", "b/zero_point")} == {np.dtype(np.uint8)}
    assert points["b/zero_point"] == points["r/zero_point"] == 0
    assert points["input/zero_point"] > 0


def test_onnx_runtime_gets_biases_in_steps_of_input_times_weight(residual):
    initializers = quantized(residual, "ort").graph.initializers
    assert initializers["branch/bias"].dtype == ir.DataType.INT32
    expected = array(initializers["b/scale"]) * array(initializers["w2/scale"])
    np.testing.assert_array_equal(array(initializers["branch/bias/scale"]), expected)


def test_tensorrt_gets_zero_points_of_zero_in_int8_and_float_biases(residual):
    initializers = quantized(residual, "tensorrt").graph.initializers
    points = [array(value) for name, value in initializers.items() if name.endswith("/zero_point")]
    assert {point.dtype for point in points} == {np.dtype(np.int8)}
    assert not any(point.any() for point in points)
    assert (initializers["b1"].dtype, initializers["b2"].dtype) == (ir.DataType.FLOAT, ir.DataType.FLOAT)


@EVERY_FLAVOUR
def test_every_scale_is_positive_and_weights_have_one_per_output_channel(residual, flavour):
    initializers = quantized(residual, flavour).graph.initializers
    scales = {name: array(value) for name, value in initializers.items() if name.endswith("/scale")}
    assert all((scale > 0).all() for scale in scales.values())
    assert all(scales[f"{name}/scale"].shape == (4,) for name in ("w1", "w2", "w3"))
    assert scales["input/scale"].shape == ()


def test_seven_bit_weights_fit_two_products_into_16_bits(residual):
    flavour = FLAVOURS["ort"].reduced()
    model = emit(residual.model, uniform_plan(residual.model, "int8"), residual.ranges, flavour)
    largest = max(int(np.abs(array(model.graph.initializers[name]).astype(int)).max()) for name in ("w1", "w2", "w3"))
    assert 2 * 255 * largest <= np.iinfo(np.int16).max
    assert largest == 64


def test_a_plan_in_float_changes_nothing(residual):
    model = emit(residual.model, uniform_plan(residual.model, "fp32"), {}, FLAVOURS["ort"])
    assert ir.to_proto(model) == ir.to_proto(residual.model)


@EVERY_FLAVOUR
def test_a_layer_that_the_plan_leaves_in_float_stays_so(residual, flavour):
    plan = QuantPlan(dict(uniform_plan(residual.model, "int8").layers) | {"w2": LayerQuant("fp32", "too lossy")})
    model = emit(residual.model, plan, residual.ranges, FLAVOURS[flavour])
    initializers = model.graph.initializers
    assert [initializers[name].dtype.name for name in ("w1", "w2", "w3")] == ["INT8", "FLOAT", "INT8"]
    assert initializers["b2"].dtype == ir.DataType.FLOAT


def test_a_value_without_a_range_is_named(residual):
    ranges = {name: span for name, span in residual.ranges.items() if name != "r"}
    with pytest.raises(ConfigError, match="no range is known for r"):
        emit(residual.model, uniform_plan(residual.model, "int8"), ranges, FLAVOURS["ort"])


@EVERY_FLAVOUR
def test_a_dead_channel_keeps_its_bias(parse, tmp_path, flavour):
    text = "(float[batch, 3, 8, 8] input) => (float[batch, 4, 8, 8] y) { a = Conv(input, w, b)  y = Relu(a) }"
    w = RNG.normal(size=(4, 3, 1, 1)).astype(np.float32)
    w[1], w[2] = 0, 1e-30
    b = np.array([0, 5, -3, 0.5], np.float32)
    subject = calibrated(clean(parse(text, w=w, b=b)), RNG.normal(size=(16, 3, 8, 8)).astype(np.float32), tmp_path)
    for options in ({}, {"graph_optimization": "disable"}):
        y = run(quantized(subject, flavour), subject.x, tmp_path, options)
        np.testing.assert_allclose(y[:, 1], 5, rtol=0.01)
        np.testing.assert_array_equal(y[:, 2], 0)


@EVERY_FLAVOUR
def test_layers_that_share_a_weight_share_its_integers(parse, tmp_path, flavour):
    text = """(float[batch, 3, 8, 8] input) => (float[batch, 3, 8, 8] y) {
        a = Conv(input, w, b)  r = Relu(a)  y = Conv(r, w, b)
    }"""
    weights = {"w": RNG.normal(size=(3, 3, 1, 1)).astype(np.float32), "b": np.array([1, 2, 3], np.float32)}
    x = RNG.normal(size=(16, 3, 8, 8)).astype(np.float32)
    subject = calibrated(clean(parse(text, **weights)), x, tmp_path)
    model = quantized(subject, flavour)
    (stored,) = model.graph.initializers["w"].consumers()
    assert [node.op_type for node in stored.outputs[0].consumers()] == ["Conv", "Conv"]
    assert snr_db(run(subject.model, x, tmp_path, {}), run(model, x, tmp_path, {})) > 30


@EVERY_FLAVOUR
def test_the_digits_are_read_as_well_as_in_float(digits, flavour, tmp_path):
    options = {"graph_optimization": "disable"} if flavour == "tensorrt" else {}
    expected = run(digits.model, digits.images, tmp_path, {})
    assert np.mean(top1(expected) == digits.labels) > 0.8  # else agreement would say nothing
    assert agreement(expected, run(quantized(digits, flavour), digits.images, tmp_path, options)) > 0.98


@pytest.mark.parametrize("runtime", ["ort", "openvino"])
def test_every_layer_runs_in_integers(digits, residual, runtime, tmp_path):
    for subject in (digits, residual):
        plans = [LayerPlan(layer.name, layer.op, layer.weight, "int8") for layer in weighted_layers(subject.model)]
        with opened(runtime, quantized(subject, runtime), tmp_path) as runner:
            layers = resolve(EFFECTIVE, runtime, "backend")(runner.evidence(), plans)
        assert [layer.effective for layer in layers] == ["int8"] * len(plans)


def test_a_residual_network_takes_one_integer_kernel_for_each_layer_and_sum(tmp_path):
    export(
        build("resnet20", {"input_shape": (3, 16, 16), "classes": 10}),
        specs_of({"input_shape": (3, 16, 16)}),
        tmp_path / "m.onnx",
    )
    x = RNG.normal(size=(16, 3, 16, 16)).astype(np.float32)
    model = quantized(calibrated(read_onnx(tmp_path / "m.onnx"), x, tmp_path), "ort")
    with opened("ort", model, tmp_path) as runner:
        counts = Counter(node["op"] for node in runner.evidence()["nodes"])
    assert (counts["QLinearConv"], counts["QLinearAdd"], counts["QGemm"]) == (19, 9, 1)
    assert counts["QLinearGlobalAveragePool"] == 1
    assert counts["QuantizeLinear"] == 1 + counts["Pad"]  # the input; ONNX Runtime fuses no Pad


def test_nothing_between_the_layers_runs_in_float(digits, tmp_path):
    with opened("ort", quantized(digits, "ort"), tmp_path) as runner:
        nodes = runner.evidence()["nodes"]
    floats = [node["op"] for node in nodes if "float" in node["inputs"][:1]]
    assert floats == ["QuantizeLinear"]  # of the input
    assert Counter(node["op"] for node in nodes)["DequantizeLinear"] == 0


@EVERY_FLAVOUR
def test_every_choice_of_layers_that_stay_in_float_can_be_emitted(digits, residual, flavour):
    """What follows a layer in float, and a pool behind it, is quantized for the next layer on its own."""
    for subject in (digits, residual):
        weights = [layer.weight for layer in weighted_layers(subject.model)]
        for chosen in range(2 ** len(weights)):
            floats = {weight for bit, weight in enumerate(weights) if chosen >> bit & 1}
            layers = {weight: LayerQuant("fp32" if weight in floats else "int8") for weight in weights}
            model = emit(subject.model, QuantPlan(layers), subject.ranges, FLAVOURS[flavour])
            onnx.checker.check_model(ir.to_proto(model), full_check=True)
