from __future__ import annotations

import json

import pytest

from edgeprune.backends.tensorrt.lower import lower
from edgeprune.errors import ModelError
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
