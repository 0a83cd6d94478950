from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from edgeprune.backends.tensorrt.build_file import read_build
from edgeprune.backends.tensorrt.lower import lower
from edgeprune.errors import MissingError, ModelError
from edgeprune.targets.load import load_target

JETSON = load_target("jetson")


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_the_file_and_its_build_travel(signed_model, out):
    lowered = lower(signed_model, JETSON, "int8", out)
    assert set(lowered.files) == {"model", "build"}
    assert lowered.files["model"].read_bytes() == signed_model.read_bytes()


def test_the_build_is_said_exactly(signed_model, out):
    build = json.loads(lower(signed_model, JETSON, "int8", out).files["build"].read_bytes())
    assert build["network"] == {"strongly_typed": True}
    assert build["tensorrt"] == {"from": "10.0", "below": "12.0"}
    assert build["assumes"]["tensorrt"] == "10.3"
    assert build["profiles"] == [{"x": {"min": [1, 1, 8, 8], "opt": [1, 1, 8, 8], "max": [8, 1, 8, 8]}}]


def test_kernels_for_sparse_weights_are_asked_for_where_there_are_such(signed_model, sparse_model, out):
    build = json.loads(lower(signed_model, JETSON, "int8", out).files["build"].read_bytes())
    assert (build["builder"]["sparse_weights"], build["sparse_layers"]) == (False, [])
    build = json.loads(lower(sparse_model, JETSON, "int8", out).files["build"].read_bytes())
    assert (build["builder"]["sparse_weights"], build["sparse_layers"]) == (True, ["conv2", "fc1", "fc2"])


def test_equal_inputs_give_equal_bytes(signed_model, out, tmp_path):
    first = lower(signed_model, JETSON, "int8", out).files["build"].read_bytes()
    assert lower(signed_model, JETSON, "int8", tmp_path).files["build"].read_bytes() == first


def test_a_file_that_breaks_a_rule_is_refused_with_its_first_node(unsigned_model, out):
    with pytest.raises(ModelError, match=r"unsigned\.onnx: node 'q0': UINT8 is read as INT8 .* \(and \d+ more\)"):
        lower(unsigned_model, JETSON, "int8", out)
    assert not list(out.iterdir())


def test_a_length_that_nobody_says_is_refused(write_onnx, out):
    path = write_onnx("g (float[batch,length] x) => (float[batch,length] y) { [relu] y = Relu(x) }")
    with pytest.raises(ModelError, match="input 'x' leaves length free"):
        lower(path, JETSON, "fp32", out)
    assert not list(out.iterdir())


FOUR_BITS = """<ir_version: 10, opset_import: ["" : 21]>
g (float[batch,64] x) => (float[batch,8] y) {
  [k] k = DequantizeLinear<axis=0, block_size=32>(w, s)
  [fc] y = MatMul(x, k)
}"""


@pytest.fixture
def four_bits(write_onnx):
    path = write_onnx(FOUR_BITS, s=np.ones((2, 8), np.float32))
    model = onnx.load(path)
    packed = onnx.helper.make_tensor("w", onnx.TensorProto.INT4, (64, 8), bytes(64 * 8 // 2), raw=True)
    model.graph.initializer.append(packed)
    onnx.save(model, path)
    return path


def test_four_bits_travel_to_an_old_tensorrt_as_unproven(four_bits, out):
    lowered = lower(four_bits, JETSON, "int4", out)
    assert lowered.unproven == "INT4 weights need opset 21, and TensorRT 10.3 is documented up to 20"
    build = read_build(lowered.files["build"])
    assert build.unproven == lowered.unproven
    build.refuse_other("10.3.0")  # tried
    with pytest.raises(MissingError):
        build.refuse_other("10.2.0")


def test_a_newer_tensorrt_is_known_to_take_four_bits(four_bits, out):
    lowered = lower(four_bits, load_target("jetson-thor"), "int4", out)
    assert lowered.unproven == ""
    assert read_build(lowered.files["build"]).since == "10.9"


def test_any_other_file_of_that_opset_is_refused(write_onnx, out):
    path = write_onnx(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[b,2] x) => (float[b,2] y) { [n] y = Relu(x) }'
    )
    with pytest.raises(ModelError, match=r"opset 21; TensorRT 10\.3 parses up to 20"):
        lower(path, JETSON, "fp32", out)


def test_where_fp16_is_wanted_the_file_says_so_itself(float_model, out):
    lowered = lower(float_model, JETSON, "fp16", out)
    kinds = {one.data_type for one in onnx.load(lowered.files["model"]).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
    assert onnx.TensorProto.FLOAT not in kinds
