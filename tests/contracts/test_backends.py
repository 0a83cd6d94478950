"""What every runtime that EdgePrune loads must do; a new one is tested by adding its line to LOAD."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial

import numpy as np
import onnx
import onnx.reference
import pytest

from edgeprune.backends import EFFECTIVE, LOAD, LOWER, TIMES
from edgeprune.errors import ConfigError, CorruptError, DataError, MissingError, ModelError
from edgeprune.graph.load import read_onnx
from edgeprune.graph.operators import operators
from edgeprune.registry import resolve
from edgeprune.targets.load import load_target

GRAPH = """<ir_version: 10, opset_import: ["" : 20]>
g (float[batch,3,16,16] image, float[batch,4] extra) => (float[batch,5] scores, float[batch,12] features) {
  [conv] c = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w, b)
  [clip] r = Clip(c, low, high)
  [pool] p = GlobalAveragePool(r)
  [flat] f = Flatten(p)
  [join] features = Concat<axis=1>(f, extra)
  [fc] scores = Gemm<transB=1>(features, v, c0)
}"""


@pytest.fixture
def model(tmp_path):
    random = np.random.default_rng(0)
    arrays = {
        "w": random.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "b": random.normal(0, 0.3, 8).astype(np.float32),
        "v": random.normal(0, 0.3, (5, 12)).astype(np.float32),
        "c0": random.normal(0, 0.3, 5).astype(np.float32),
        "low": np.float32(0),
        "high": np.float32(6),
    }
    proto = onnx.parser.parse_model(GRAPH)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.save(proto, tmp_path / "given.onnx")
    return tmp_path / "given.onnx"


@pytest.fixture(params=sorted(LOAD))
def backend(request):
    try:
        resolve(LOAD, request.param, "runtime")
    except MissingError as error:
        pytest.skip(str(error))
    return request.param


@pytest.fixture
def open_file(backend, tmp_path):
    """Lower a file in FP32, as a baseline is, and open what came out."""

    def open_file(path, batch=1):
        try:
            lowered = resolve(LOWER, backend, "runtime")(path, load_target("cpu"), "fp32", tmp_path)
        except ModelError as error:  # TensorRT builds for known sizes
            pytest.skip(str(error))
        return resolve(LOAD, backend, "runtime")(lowered.files, lowered.options, threads=1, batch=batch)

    return open_file


@pytest.fixture
def open_runner(open_file, model):
    return partial(open_file, model)


@pytest.fixture
def open_text(open_file, tmp_path):
    """Open a graph given in ONNX's text form."""

    def open_text(text, batch=1):
        onnx.save(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> g {text}'), tmp_path / "g.onnx")
        return open_file(tmp_path / "g.onnx", batch)

    return open_text


def feeds(batch, seed=1):
    random = np.random.default_rng(seed)
    return {
        "image": random.normal(size=(batch, 3, 16, 16)).astype(np.float32),
        "extra": random.normal(size=(batch, 4)).astype(np.float32),
    }


@pytest.mark.parametrize("batch", [1, 3])
def test_it_computes_what_the_graph_says(open_runner, model, batch):
    expected = onnx.reference.ReferenceEvaluator(str(model)).run(None, feeds(batch))
    with open_runner(batch) as runner:
        outputs = runner.infer(feeds(batch))
    assert list(outputs) == ["scores", "features"]
    for found, right in zip(outputs.values(), expected, strict=True):
        np.testing.assert_allclose(found, right, atol=1e-5)  # float32: bfloat16 would be off by 1e-2


def test_it_tells_its_inputs_with_the_batch_it_was_opened_for(open_runner):
    with open_runner(2) as runner:
        assert [(spec.name, spec.dtype, spec.shape) for spec in runner.inputs] == [
            ("image", "float32", (2, 3, 16, 16)),
            ("extra", "float32", (2, 4)),
        ]
        assert runner.input_names == ("image", "extra")
        assert runner.output_names == ("scores", "features")


def test_a_profile_is_the_evidence_with_the_time_of_each_node(open_file, big_model):
    random = np.random.default_rng(0)
    batches = [{"image": random.normal(size=(1, 16, 64, 64)).astype(np.float32)} for _ in range(3)]
    with open_file(big_model) as runner:
        profile, evidence = runner.profile(batches, 0.1), runner.evidence()
        assert {node["name"] for node in profile["nodes"]} <= {node["name"] for node in evidence["nodes"]}
        assert {key: profile[key] for key in ("runtime", "version")} == {
            key: evidence[key] for key in ("runtime", "version")
        }
        assert all(node["us"] >= 0 for node in profile["nodes"])


def test_times_name_the_operator_that_takes_them(backend, open_file, big_model):
    found = operators(read_onnx(big_model))
    with open_file(big_model) as runner:
        profile = runner.profile([{"image": np.zeros((1, 16, 64, 64), np.float32)}], 0.1)
    us = resolve(TIMES, backend, "runtime")(profile, found)
    assert us.keys() <= {"wide", "thin", "pool"}
    assert us["wide"] > us["thin"] > us["pool"] / 4  # 6 times as much arithmetic
    assert sum(us.values()) == pytest.approx(sum(node["us"] for node in profile["nodes"]))


BIG = """<ir_version: 10, opset_import: ["" : 20]>
g (float[batch,16,64,64] image) => (float[batch,64,1,1] y) {
  [wide] a = Conv<pads=[2,2,2,2]>(image, w)
  [relu] r = Relu(a)
  [thin] b = Conv(r, v)
  [pool] y = GlobalAveragePool(b)
}"""


@pytest.fixture
def big_model(tmp_path):
    """One convolution that takes most, one that takes less, and a pool."""
    proto = onnx.parser.parse_model(BIG)
    random = np.random.default_rng(0)
    for name, shape in {"w": (64, 16, 5, 5), "v": (64, 64, 1, 1)}.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(random.normal(size=shape).astype("f"), name))
    onnx.save(proto, tmp_path / "big.onnx")
    return tmp_path / "big.onnx"


WEIGHED = """(int64[batch, seq] ids, float[batch, seq] mask, float limit) => (float[batch, seq] y, float[batch] total)
<int64[1] axis = {1}> {
  [cast] f = Cast<to=1>(ids)
  [mul] g = Mul(f, mask)
  [min] y = Min(g, limit)
  [sum] total = ReduceSum<keepdims=0>(y, axis)
}"""


def test_a_dimension_behind_the_batch_stays_free(open_text):
    with open_text(WEIGHED, batch=2) as runner:
        assert [spec.shape[0] for spec in runner.inputs[:2]] == [2, 2]
        assert [type(size) for spec in runner.inputs for size in spec.shape[1:]] == [str, str]
        assert runner.inputs[2].shape == ()
        for length in (3, 5, 1):
            ids = np.arange(2 * length).reshape(2, length)
            mask, limit = np.full((2, length), 0.5, np.float32), np.array(2, np.float32)
            outputs = runner.infer({"ids": ids, "mask": mask, "limit": limit})
            np.testing.assert_array_equal(outputs["y"], np.minimum(ids * mask, limit))
            np.testing.assert_array_equal(outputs["total"], outputs["y"].sum(1))
        assert json.loads(json.dumps(runner.evidence()))["nodes"]


def test_evidence_of_free_dimensions_needs_no_inference_before_it(open_text):
    with open_text(WEIGHED) as runner:
        assert runner.evidence()["nodes"]


def test_sizes_that_do_not_go_together_are_refused_in_one_line(open_text):
    limit = np.array(2, np.float32)
    with open_text(WEIGHED) as runner, pytest.raises(DataError, match="mask") as raised:
        runner.infer({"ids": np.zeros((1, 4), np.int64), "mask": np.zeros((1, 3), np.float32), "limit": limit})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("inner", ["3", "k"], ids=["fixed", "free"])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("int64", "int64"), ("int32", "int32"), ("float16", "float16"), ("double", "float64"), ("uint8", "uint8")],
)
def test_numbers_of_every_type_go_in_and_out(open_text, kind, dtype, inner):
    text = f"({kind}[batch, {inner}] x) => ({kind}[batch, {inner}] y) {{ [twice] y = Add(x, x) }}"
    x = np.arange(6, dtype=dtype).reshape(2, 3)
    with open_text(text, batch=2) as runner:
        assert runner.inputs[0].dtype == dtype
        y = runner.infer({"x": x})["y"]
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, x + x)


def test_truth_values_go_in_and_out(open_text):
    with open_text("(bool[batch, k] x) => (bool[batch, k] y) { [no] y = Not(x) }", batch=2) as runner:
        x = np.array([[True, False], [False, True]])
        np.testing.assert_array_equal(runner.infer({"x": x})["y"], ~x)


def test_a_batch_that_is_fixed_in_the_file_stays(open_text):
    with open_text("(float[4, 2] x) => (float[4, 2] y) { [relu] y = Relu(x) }", batch=1) as runner:
        assert runner.inputs[0].shape == (4, 2)


def test_the_order_of_the_inputs_does_not_matter(open_runner):
    with open_runner() as runner:
        forth = runner.infer(feeds(1))
        back = runner.infer(dict(reversed(feeds(1).items())))
    np.testing.assert_array_equal(forth["scores"], back["scores"])


def test_compiling_is_told_where_it_is_a_step_of_its_own(open_runner, backend):
    with open_runner() as runner:
        told = runner.compilation
        assert (told is not None) == (backend == "openvino")
        if told is not None:
            assert (told.ms > 0, told.cached) == (True, False)
        assert runner.device_bytes is None or backend == "tensorrt"


def test_outputs_belong_to_the_caller(open_runner):
    with open_runner() as runner:
        first = runner.infer(feeds(1))["scores"]
        kept = first.copy()
        runner.infer(feeds(1, seed=2))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"picture": np.zeros((1, 3, 16, 16), np.float32), "extra": np.zeros((1, 4), np.float32)}, "picture"),
        ({"image": np.zeros((1, 3, 16, 16), np.float32)}, "the model takes"),
        ({**feeds(1), "image": np.zeros((1, 3, 16, 16))}, "float64"),
        ({**feeds(1), "image": np.zeros((2, 3, 16, 16), np.float32)}, r"\[2, 3, 16, 16\]"),
        ({**feeds(1), "image": np.zeros((1, 3, 16, 15), np.float32)}, r"\[1, 3, 16, 15\]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(open_runner, wrong, message):
    with open_runner() as runner, pytest.raises(DataError, match=message):
        runner.infer(wrong)


def test_evidence_is_json_and_tells_every_layer(open_runner, backend):
    from edgeprune.bundle import LayerPlan

    with open_runner() as runner:
        evidence = json.loads(json.dumps(runner.evidence()))
    assert evidence["nodes"]
    assert evidence["version"]
    planned = (LayerPlan("conv", "Conv", "w", "fp32"), LayerPlan("fc", "Gemm", "v", "fp32"))
    layers = resolve(EFFECTIVE, backend, "runtime")(evidence, planned)
    assert [(layer.name, layer.effective) for layer in layers] == [("conv", "fp32"), ("fc", "fp32")]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core")
@pytest.mark.parametrize("threads", [1, 2])
def test_none_of_its_threads_is_tied_to_a_core(backend, model, tmp_path, threads):
    """A runtime that ties its threads waits for that core on a shared machine, and would be compared with one that
    does not. In a process of its own, where no other test has left threads."""
    lowered = resolve(LOWER, backend, "runtime")(model, load_target("cpu"), "fp32", tmp_path)
    code = f"""
import json, os, sys
from pathlib import Path
import numpy as np
from edgeprune.backends import LOAD
from edgeprune.graph.load import read_onnx
from edgeprune.graph.operators import operators
from edgeprune.registry import resolve
allowed = os.sched_getaffinity(0)
files, options = {{"model": Path({str(lowered.files["model"])!r})}}, {lowered.options!r}
with resolve(LOAD, {backend!r}, "runtime")(files, options, threads={threads}, batch=1) as runner:
    runner.infer({{spec.name: np.zeros(spec.shape, spec.dtype) for spec in runner.inputs}})
    tied = [thread for thread in os.listdir("/proc/self/task") if os.sched_getaffinity(int(thread)) != allowed]
sys.exit(f"{{len(tied)}} tied" if tied else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_closing_twice_is_closing(open_runner):
    runner = open_runner()
    runner.close()
    runner.close()


@pytest.mark.parametrize("content", [b"", b"not an ONNX file at all"])
def test_a_file_that_cannot_be_parsed_is_corrupt(backend, tmp_path, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    options = {"openvino": {"INFERENCE_PRECISION_HINT": "f32"}}.get(backend, {})
    with pytest.raises(CorruptError, match=r"broken\.onnx"):
        resolve(LOAD, backend, "runtime")({"model": path}, options, threads=1, batch=1)


def test_an_unknown_option_is_refused(backend, model):
    with pytest.raises(ConfigError, match="FASTER"):
        resolve(LOAD, backend, "runtime")({"model": model}, {"FASTER": "1"}, threads=1, batch=1)
