import subprocess

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from edgeprune.backends import EFFECTIVE, LOAD
from edgeprune.backends.onnx_file import checked_copy
from edgeprune.bundle import LayerPlan
from edgeprune.errors import MissingError
from edgeprune.graph.cleanup import clean
from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.save import write_onnx
from edgeprune.metrics import snr_db
from edgeprune.quantize.calibrate import calibrate
from edgeprune.quantize.emission.flavour import FLAVOURS, fitted
from edgeprune.quantize.emission.qdq import emit
from edgeprune.quantize.plan import uniform_plan
from edgeprune.registry import resolve

STEPS, INPUTS, HIDDEN, WORDS = 12, 24, 32, 300
RNG = np.random.default_rng(0)
OPTIONS = {"ort": {}, "openvino": {"INFERENCE_PRECISION_HINT": "f32"}}
TEXT = """(int64[batch, 12] ids) => (float[batch, 4] scores) {
  x = Gather(table, ids)  t = Transpose<perm = [1, 0, 2]>(x)
  [memory] h = LSTM<hidden_size = 32, direction = "%s">(t, w, r, b)
  m = ReduceMean<keepdims = 0>(h, first)  s = Transpose<perm = [1, 0, 2]>(m)  f = Reshape(s, flat)
  [head] scores = Gemm(f, v, c)
}"""


@pytest.fixture(params=["forward", "bidirectional"])
def reader(request, parse) -> ir.Model:
    """Weights as torch draws them, in ONNX's order of the gates (that order does not matter to random numbers)."""
    ways = 2 if request.param == "bidirectional" else 1
    bound = HIDDEN**-0.5

    def drawn(*shape):
        return RNG.uniform(-bound, bound, shape).astype(np.float32)

    model = parse(
        TEXT % request.param,
        table=RNG.normal(size=(WORDS, INPUTS)).astype(np.float32),
        w=drawn(ways, 4 * HIDDEN, INPUTS),
        r=drawn(ways, 4 * HIDDEN, HIDDEN),
        b=drawn(ways, 8 * HIDDEN),
        v=drawn(ways * HIDDEN, 4),
        c=drawn(4),
        first=np.array([0]),
        flat=np.array([-1, ways * HIDDEN]),
    )
    return clean(model)


@pytest.fixture
def ids() -> np.ndarray:
    return RNG.integers(0, WORDS, (16, STEPS))


@pytest.fixture
def ranges(reader, ids, tmp_path):
    write_onnx(reader, tmp_path / "float.onnx")
    return calibrate(tmp_path / "float.onnx", [{"ids": ids}])


def run(model, ids, runtime, folder):
    write_onnx(model, folder / "m.onnx")
    try:
        load = resolve(LOAD, runtime, "backend")
    except MissingError as error:
        pytest.skip(str(error))
    with load({"model": folder / "m.onnx"}, OPTIONS[runtime], threads=1, batch=len(ids)) as runner:
        return runner.infer({"ids": ids})["scores"], runner.evidence()


def test_only_real_numbers_are_observed(ranges):
    assert "ids" not in ranges


@pytest.mark.parametrize("runtime", ["ort", "openvino"])
def test_every_layer_runs_as_the_fitted_plan_says_and_nearly_as_in_float(reader, ids, ranges, runtime, tmp_path):
    expected, _ = run(reader, ids, "ort", tmp_path)
    plan = fitted(uniform_plan(reader, "int8"), reader, FLAVOURS[runtime])
    found, evidence = run(emit(reader, plan, ranges, FLAVOURS[runtime]), ids, runtime, tmp_path)
    layers = [
        LayerPlan(one.name, one.op, one.weight, plan.layers[one.weight].precision) for one in weighted_layers(reader)
    ]
    assert [layer.precision for layer in layers] == ["int8", "int8" if runtime == "ort" else "fp32", "int8"]
    effective = resolve(EFFECTIVE, runtime, "backend")(evidence, layers)
    assert [(layer.name, layer.effective) for layer in effective] == [(one.name, one.precision) for one in layers]
    assert snr_db(expected, found) > 25


def test_a_float_lstm_ran_in_float(reader, ids, tmp_path):
    layers = [LayerPlan(layer.name, layer.op, layer.weight, "fp32") for layer in weighted_layers(reader)]
    for runtime in ("ort", "openvino"):
        _, evidence = run(reader, ids, runtime, tmp_path)
        assert {layer.effective for layer in resolve(EFFECTIVE, runtime, "backend")(evidence, layers)} == {"fp32"}


def test_both_weights_are_stored_in_8_bits_and_the_file_is_valid(reader, ranges, tmp_path):
    model = emit(reader, uniform_plan(reader, "int8"), ranges, FLAVOURS["ort"])
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    write_onnx(model, tmp_path / "int8.onnx")
    (tmp_path / "out").mkdir()
    checked_copy(tmp_path / "int8.onnx", tmp_path / "out")
    (memory,) = (node for node in model.graph if node.op_type == "DynamicQuantizeLSTM")
    assert (memory.name, memory.domain) == ("memory", "com.microsoft")
    assert [memory.inputs[index].dtype for index in (1, 2)] == [ir.DataType.INT8] * 2
    assert [memory.inputs[index].name for index in (1, 2)] == ["w", "r"]
    assert (tmp_path / "int8.onnx").stat().st_size < (tmp_path / "float.onnx").stat().st_size / 2.5


@pytest.mark.parametrize("flavour", ["openvino", "tensorrt"])
def test_elsewhere_an_lstm_and_what_it_reads_stay_float(reader, ranges, flavour):
    model = emit(reader, uniform_plan(reader, "int8"), ranges, FLAVOURS[flavour])
    (memory,) = (node for node in model.graph if node.op_type == "LSTM")
    assert all(
        value is None or value.producer() is None or value.producer().op_type == "Transpose" for value in memory.inputs
    )
    assert model.graph.initializers["w"].dtype == ir.DataType.FLOAT


def test_it_is_torchs_own_lstm_that_is_kept(tmp_path):
    """The gates' order, both directions and the initial state, from torch through the exporter."""
    torch.manual_seed(0)
    lstm = nn.LSTM(INPUTS, HIDDEN, bidirectional=True).eval()
    x = torch.randn(STEPS, 1, INPUTS)
    program = torch.onnx.export(lstm, (x,), dynamo=True, opset_version=20, verbose=False, input_names=["x"])
    model = clean(ir.from_proto(program.model_proto))
    integer = emit(model, uniform_plan(model, "int8"), {}, FLAVOURS["ort"])
    write_onnx(integer, tmp_path / "m.onnx")
    with torch.no_grad():
        expected = lstm(x)[0].numpy()
    with resolve(LOAD, "ort", "backend")({"model": tmp_path / "m.onnx"}, {}, threads=1, batch=1) as runner:
        found = next(iter(runner.infer({"x": x.numpy()}).values()))
    assert snr_db(expected, found) > 30


ON_THE_OLDEST = """
import sys
import numpy as np, onnxruntime as ort
options, ids = ort.SessionOptions(), np.load(sys.argv[1] + "/ids.npy")
options.intra_op_num_threads = 1
options.add_free_dimension_override_by_name("batch", len(ids))
for _ in range(20):
    session = ort.InferenceSession(sys.argv[1] + "/m.onnx", options, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"ids": ids})
np.save(sys.argv[1] + "/scores.npy", scores)
"""


def test_an_older_runtime_takes_it_every_time(reader, ids, ranges, python310, tmp_path):
    """1.23.2 looked past the end of the zero points of the hidden state's weight, and refused what lay there or not."""
    expected, _ = run(emit(reader, uniform_plan(reader, "int8"), ranges, FLAVOURS["ort"]), ids, "ort", tmp_path)
    np.save(tmp_path / "ids.npy", ids)
    words = [python310, "-c", ON_THE_OLDEST, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), expected, atol=1e-2 * np.abs(expected).max())
