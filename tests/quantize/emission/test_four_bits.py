"""Weights in 4 bits, from the plan to what the runtimes run."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from edgeprune.backends import EFFECTIVE, LOAD
from edgeprune.backends.tensorrt.lint import lint
from edgeprune.bundle import LayerPlan
from edgeprune.errors import MissingError
from edgeprune.graph.cleanup import clean
from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.load import read_onnx
from edgeprune.graph.save import write_onnx
from edgeprune.metrics import snr_db
from edgeprune.quantize.calibrate import calibrate
from edgeprune.quantize.emission.flavour import FLAVOURS, fitted, flavour_for, kernel
from edgeprune.quantize.emission.qdq import emit
from edgeprune.quantize.plan import uniform_plan
from edgeprune.quantize.spec import LayerQuant, QuantPlan, Range, Rounded
from edgeprune.registry import resolve
from edgeprune.targets.load import load_target
from edgeprune.targets.target import BackendUse

OPTIONS = {"ort": {}, "openvino": {"INFERENCE_PRECISION_HINT": "f32"}}
RNG = np.random.default_rng(0)
NETWORK = """(float[batch, 3, 8, 8] input) => (float[batch, 5] output) {
  [stem] a = Conv<pads = [1, 1, 1, 1]>(input, w1, b1)
  [stem_relu] b = Relu(a)
  [branch] c = Conv<pads = [1, 1, 1, 1]>(b, w2, b2)
  [branch_relu] d = Relu(c)
  [pool] e = MaxPool<kernel_shape = [4, 4], strides = [4, 4]>(d)
  [flat] f = Flatten(e)
  [dense] output = Gemm<transB = 1>(f, w3, b3)
}"""
SHAPES = {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 16, 3, 3), "b2": (16,), "w3": (5, 64), "b3": (5,)}


@dataclass(frozen=True)
class Subject:
    model: ir.Model
    ranges: dict[str, Range]
    x: np.ndarray


@pytest.fixture(scope="module")
def subject(parse, tmp_path_factory) -> Subject:
    weights = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    model, x = clean(parse(NETWORK, **weights)), RNG.normal(size=(16, 3, 8, 8)).astype(np.float32)
    file = tmp_path_factory.mktemp("float") / "float.onnx"
    write_onnx(model, file)
    return Subject(model, calibrate(file, [{"input": x}]), x)


def plan(subject, **chosen: LayerQuant) -> QuantPlan:
    return QuantPlan(dict(uniform_plan(subject.model, "int4").layers) | chosen)


def run(model: ir.Model, x: np.ndarray, folder: Path, runtime: str = "ort", options=None) -> np.ndarray:
    write_onnx(model, folder / "m.onnx")
    options = OPTIONS[runtime] if options is None else options
    try:
        load = resolve(LOAD, runtime, "backend")
        with load({"model": folder / "m.onnx"}, options, threads=1, batch=len(x)) as runner:
            (output,) = runner.infer({"input": x}).values()
    except MissingError as error:
        pytest.skip(str(error))
    return output


def executed(model: ir.Model, layers: list[LayerPlan], folder: Path, runtime: str) -> list[str]:
    write_onnx(model, folder / "m.onnx")
    try:
        load = resolve(LOAD, runtime, "backend")
        with load({"model": folder / "m.onnx"}, OPTIONS[runtime], threads=1, batch=1) as runner:
            evidence = runner.evidence()
    except MissingError as error:
        pytest.skip(str(error))
    return [layer.effective for layer in resolve(EFFECTIVE, runtime, "backend")(evidence, layers)]


WIDE = {"w2": LayerQuant("int4", wide=(0, 3, 15)), "w3": LayerQuant("int4", wide=(1,))}


@pytest.mark.parametrize("runtime", OPTIONS)
@pytest.mark.parametrize("chosen", [{}, WIDE], ids=["all in four", "some channels in eight"])
def test_four_bits_on_the_disk_run_in_eight_bit_kernels(subject, tmp_path, runtime, chosen):
    model = emit(subject.model, plan(subject, **chosen), subject.ranges, FLAVOURS[runtime])
    layers = [LayerPlan(one.name, one.op, one.weight, "int8") for one in weighted_layers(subject.model)]
    assert executed(model, layers, tmp_path, runtime) == ["int8"] * 3


@pytest.mark.parametrize("runtime", OPTIONS)
def test_the_runtime_computes_what_the_reference_says(subject, tmp_path, runtime):
    model = emit(subject.model, plan(subject, **WIDE), subject.ranges, FLAVOURS[runtime])
    (expected,) = ReferenceEvaluator(ir.to_proto(model)).run(None, {"input": subject.x[:4]})
    found = run(model, subject.x[:4], tmp_path, runtime)
    assert snr_db(expected, found) > 35  # a value between two steps may go either way


def test_the_file_holds_two_weights_in_a_byte(subject, tmp_path):
    write_onnx(emit(subject.model, plan(subject, **WIDE), subject.ranges, FLAVOURS["ort"]), tmp_path / "m.onnx")
    stored = {one.name: one for one in onnx.load(tmp_path / "m.onnx").graph.initializer}
    four, eight = onnx.TensorProto.INT4, onnx.TensorProto.INT8
    assert [stored[name].data_type for name in ("w1", "w2", "w3")] == [four] * 3
    assert (stored["w2/wide"].data_type, list(stored["w2/wide"].dims)) == (eight, [3, 16, 3, 3])
    sizes = {name: len(stored[name].raw_data) for name in ("w1", "w2", "w3")}
    assert sizes == {"w1": 16 * 27 // 2, "w2": 13 * 144 // 2, "w3": 4 * 64 // 2}


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_zero_point_of_weights_is_stored_only_where_a_kernel_asks_for_it(subject, precision):
    names = emit(
        subject.model, uniform_plan(subject.model, precision), subject.ranges, FLAVOURS["ort"]
    ).graph.initializers
    assert [f"{name}/zero_point" in names for name in ("w1", "stem/bias", "w3", "dense/bias")] == [
        False,
        False,
        True,
        True,
    ]


def test_no_integer_is_beyond_four_bits_and_the_error_is_half_a_step_at_most(subject):
    model = emit(subject.model, plan(subject), subject.ranges, FLAVOURS["ort"])
    for name in ("w1", "w2", "w3"):
        integers = model.graph.initializers[name].const_value.numpy().astype(np.int32)
        scale = model.graph.initializers[f"{name}/scale"].const_value.numpy()
        real = subject.model.graph.initializers[name].const_value.numpy()
        assert np.abs(integers).max() == 7
        step = scale.reshape(-1, *[1] * (real.ndim - 1))
        assert np.all(np.abs(integers * step - real) <= step / 2 * 1.001)


def test_channels_in_eight_bits_lose_less(subject, tmp_path):
    """The more channels keep 8 bits, the closer is the network to the float one."""
    exact = run(subject.model, subject.x, tmp_path)

    def signal(wide: int) -> float:
        chosen = {name: LayerQuant("int4", wide=tuple(range(wide))) for name in ("w1", "w2")}
        model = emit(subject.model, plan(subject, **chosen), subject.ranges, FLAVOURS["ort"])
        return snr_db(exact, run(model, subject.x, tmp_path))

    assert signal(0) < signal(8) < signal(15)


@pytest.mark.parametrize("flavour", ["ort", "openvino"])
def test_a_weight_that_was_rounded_on_purpose_is_stored_as_it_was(subject, flavour):
    real = subject.model.graph.initializers["w2"].const_value.numpy()
    scale = np.abs(real).max((1, 2, 3)) / 5  # not the scale that the emitter would choose
    integers = RNG.integers(-7, 8, real.shape)
    rounded = {"w2": Rounded((integers * scale[:, None, None, None]).astype(np.float32), scale.astype(np.float32))}
    chosen = plan(subject, w2=LayerQuant("int4", wide=(4,)))
    model = emit(subject.model, chosen, subject.ranges, FLAVOURS[flavour], rounded)
    stored = {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}
    others = [channel for channel in range(16) if channel != 4]
    np.testing.assert_array_equal(stored["w2"].astype(np.int32), integers[others])
    np.testing.assert_array_equal(stored["w2/scale"][others], scale.astype(np.float32)[others])
    assert np.abs(stored["w2/wide"]).max() == 127  # to the nearest, on a grid of its own
    bias_scale = stored["branch/bias/scale"]
    np.testing.assert_allclose(bias_scale, stored["b/scale"] * stored["w2/scale"])  # or the kernel would be another


def test_without_vnni_the_wide_channels_keep_to_seven_bits(subject):
    model = emit(subject.model, plan(subject, **WIDE), subject.ranges, FLAVOURS["ort"].reduced())
    assert np.abs(model.graph.initializers["w2/wide"].const_value.numpy()).max() == 64


def test_tensorrt_multiplies_by_four_bits_in_blocks_and_by_eight_in_convolutions(subject, tmp_path):
    target = load_target("jetson-thor")
    flavour = flavour_for("tensorrt", target)
    chosen = fitted(plan(subject), subject.model, flavour)
    kernels = {one.weight: kernel(chosen.layers[one.weight], one, flavour) for one in weighted_layers(subject.model)}
    assert kernels == {"w1": "int8", "w2": "int8", "w3": "int4"}
    assert "Conv" in chosen.layers["w1"].reason
    model = emit(subject.model, chosen, subject.ranges, flavour)
    write_onnx(model, tmp_path / "m.onnx")
    assert lint(tmp_path / "m.onnx", target) == ()
    (restore,) = model.graph.initializers["w3"].consumers()
    assert (restore.op_type, restore.attributes.get_int("block_size"), restore.attributes.get_int("axis")) == (
        "DequantizeLinear",
        32,
        1,
    )
    assert model.graph.initializers["w3/scale"].shape == (5, 2)
    exact = run(subject.model, subject.x, tmp_path)
    assert snr_db(exact, run(model, subject.x, tmp_path, options={"graph_optimization": "disable"})) > 12


def test_a_runtime_that_is_too_old_gets_eight_bits_and_the_reason(subject):
    old = {"ort": BackendUse(precisions=("fp32", "int8"), version="1.19.2")}
    flavour = flavour_for("ort", load_target("jetson-orin-nano").model_copy(update={"backends": old}))
    layers = fitted(plan(subject), subject.model, flavour).layers.values()
    assert {layer.precision for layer in layers} == {"int8"}
    assert all("no INT4 before 1.23" in layer.reason for layer in layers)
    model = emit(subject.model, plan(subject), subject.ranges, flavour)
    assert model.opset_imports[""] == 20


@pytest.mark.parametrize(
    ("shape", "why"), [((20, 3), "20 inputs"), ((16, 4), "16 inputs"), ((32, 3), "in pairs"), ((32, 1), "one output")]
)
def test_a_layer_that_tensorrt_has_no_4_bit_kernel_for_keeps_eight_bits(parse, shape, why):
    text = f"(float[N, {shape[0]}] x) => (float[N, {shape[1]}] y) {{ y = MatMul(x, w) }}"
    model = parse(text, w=np.ones(shape, np.float32))
    chosen = fitted(uniform_plan(model, "int4"), model, flavour_for("tensorrt", load_target("jetson-thor")))
    assert chosen.layers["w"].precision == "int8"
    assert why in chosen.layers["w"].reason


def test_a_layer_some_of_whose_channels_keep_8_bits_keeps_them_all_where_4_lie_in_blocks(subject):
    flavour = flavour_for("tensorrt", load_target("jetson-thor"))
    chosen = fitted(plan(subject, w3=LayerQuant("int4", wide=(1,))), subject.model, flavour)
    assert (chosen.layers["w3"].precision, chosen.layers["w3"].wide) == ("int8", ())
    assert "keep 8 bits" in chosen.layers["w3"].reason


def test_tables_and_recurrent_weights_are_stored_in_four_bits_too(parse, tmp_path):
    text = """(int64[N, 7] ids) => (float[7, 1, N, 5] y) {
        e = Gather(table, ids)  t = Transpose<perm = [1, 0, 2]>(e)  y = LSTM<hidden_size = 5>(t, w, r)
    }"""
    weights = {"table": (50, 4), "w": (1, 20, 4), "r": (1, 20, 5)}
    model = clean(parse(text, **{name: RNG.normal(size=shape).astype(np.float32) for name, shape in weights.items()}))
    narrow, wide = (emit(model, uniform_plan(model, kind), {}, FLAVOURS["ort"]) for kind in ("int4", "int8"))
    assert {narrow.graph.initializers[name].dtype.name for name in weights} == {"INT4"}
    ids = {"ids": RNG.integers(0, 50, (3, 7))}
    found = []
    for one in (model, wide, narrow):
        write_onnx(one, tmp_path / "m.onnx")
        with resolve(LOAD, "ort", "x")({"model": tmp_path / "m.onnx"}, {}, threads=1, batch=3) as runner:
            found += [next(iter(runner.infer(ids).values()))]
    assert snr_db(found[0], found[1]) > 30
    assert snr_db(found[0], found[2]) > 10


TRAP = """<ir_version: 10, opset_import: ["" : 21]> g (float[1, 8, 8, 8] x) => (float[1, 8, 8, 8] y) {
  [q] q = QuantizeLinear(x, s, z)  [d] d = DequantizeLinear(q, s, z)
  [k] k = DequantizeLinear<axis = AXIS>(w, w_scale)
  [conv] c = Conv<pads = [1, 1, 1, 1]>(d, k)
  [relu] r = Relu(c)
  [q2] q2 = QuantizeLinear(r, s, z)  [d2] y = DequantizeLinear(q2, s, z)
}"""
GOOD = {"axis": 0, "weight": onnx.TensorProto.INT8, "zero": np.uint8(0)}
TRAPS = {
    "INT4 straight into a Conv": ("ort", GOOD | {"weight": onnx.TensorProto.INT4}),
    "INT4 straight into a Conv, OpenVINO": ("openvino", GOOD | {"weight": onnx.TensorProto.INT4}),
    "S8 activations on x86": ("ort", GOOD | {"zero": np.int8(0)}),
    "scales along the inputs": ("openvino", GOOD | {"axis": 1}),
}


def trap(folder: Path, axis: int, weight: int, zero: np.generic) -> ir.Model:
    model = onnx.parser.parse_model(TRAP.replace("AXIS", str(axis)))
    integers = np.random.default_rng(0).integers(-7, 8, (8, 8, 3, 3)).astype(np.int8)
    packed = onnx.helper.make_tensor("w", weight, integers.shape, integers.flatten().tolist())
    arrays = {"s": np.float32(0.05), "z": zero, "w_scale": np.full(8, 0.01, np.float32)}
    model.graph.initializer.extend([packed, *(onnx.numpy_helper.from_array(a, n) for n, a in arrays.items())])
    onnx.save(model, folder / "trap.onnx")
    return read_onnx(folder / "trap.onnx")


@pytest.mark.parametrize(("runtime", "how"), TRAPS.values(), ids=TRAPS)
def test_what_looks_quantized_but_runs_in_float_is_called_float(tmp_path, runtime, how):
    layers = [LayerPlan("conv", "Conv", "w", "int8")]
    assert executed(trap(tmp_path, **GOOD), layers, tmp_path, runtime) == ["int8"]
    assert executed(trap(tmp_path, **how), layers, tmp_path, runtime) == ["fp32"]


def test_openvino_tells_of_layers_that_it_runs_as_one(parse, tmp_path):
    """Two small dense layers become one Subgraph, in which only a weight tells which layer ran how."""
    text = "(float[N, 32] x) => (float[N, 4] y) { a = Gemm(x, v, c)  r = Relu(a)  y = Gemm(r, w, b) }"
    shapes = {"v": (32, 16), "c": (16,), "w": (16, 4), "b": (4,)}
    weights = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    model, x = clean(parse(text, **weights)), RNG.normal(size=(16, 32)).astype(np.float32)
    write_onnx(model, tmp_path / "float.onnx")
    ranges = calibrate(tmp_path / "float.onnx", [{"x": x}])
    chosen = QuantPlan({"v": LayerQuant("int4", wide=(2, 3)), "w": LayerQuant("int4")})
    narrow = emit(model, chosen, ranges, FLAVOURS["openvino"])
    layers = [LayerPlan(one.name, one.op, one.weight, "int8") for one in weighted_layers(model)]
    assert executed(narrow, layers, tmp_path, "openvino") == ["int8", "int8"]


ON_THE_OLDEST = """
import json, sys
import numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.enable_profiling, options.profile_file_prefix, options.log_severity_level = True, sys.argv[1] + "/profile", 3
session = ort.InferenceSession(sys.argv[1] + "/m.onnx", options, providers=["CPUExecutionProvider"])
(output,) = session.run(None, {"input": np.load(sys.argv[1] + "/x.npy")})
np.save(sys.argv[1] + "/y.npy", output)
with open(session.end_profiling()) as file:
    events = [one for one in json.load(file) if one["name"].endswith("_kernel_time")]
print(json.dumps([one["args"]["op_name"] for one in events]))
"""


def test_an_older_runtime_multiplies_in_eight_bits_too_where_a_layer_has_channels_of_both(subject, python310, tmp_path):
    mixed = plan(subject, w1=LayerQuant("int4", wide=(0, 5)), w2=LayerQuant("int4", wide=(3,)))
    expected = run(emit(subject.model, mixed, subject.ranges, FLAVOURS["ort"]), subject.x, tmp_path)
    np.save(tmp_path / "x.npy", subject.x)
    done = subprocess.run(
        [python310, "-c", ON_THE_OLDEST, str(tmp_path)], capture_output=True, text=True, check=True, env=os.environ
    )
    kernels = json.loads(done.stdout)
    assert kernels.count("QLinearConv") == 2
    assert "Conv" not in kernels
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)
