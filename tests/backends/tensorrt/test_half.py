from __future__ import annotations

import numpy as np
import onnx
import onnx.reference
import pytest

from edgeprune.backends.tensorrt.half import Half
from edgeprune.errors import ModelError
from edgeprune.graph.load import read_onnx
from edgeprune.graph.save import write_onnx

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


@pytest.fixture
def half(tmp_path):
    def half(path):
        write_onnx(Half()(read_onnx(path)).model, tmp_path / "half.onnx")
        model = onnx.load(tmp_path / "half.onnx")
        onnx.checker.check_model(model, full_check=True)  # types fit together
        return model

    return half


def test_weights_take_half_and_both_ends_stay_float32(float_model, half):
    model = half(float_model)
    assert {one.data_type for one in model.graph.initializer if one.name[0] in "wb"} == {HALF}
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == FLOAT
    before = onnx.load(float_model).graph
    assert [one.name for one in model.graph.output] == [one.name for one in before.output]
    assert {one.name for one in before.node} < {one.name for one in model.graph.node}


def test_it_computes_the_same_within_what_fp16_resolves(float_model, half, x):
    expected = onnx.reference.ReferenceEvaluator(str(float_model)).run(None, {"x": x})[0]
    found = onnx.reference.ReferenceEvaluator(half(float_model)).run(None, {"x": x})[0]
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 30 * 2**-11 * np.abs(expected).max()  # half a step, over some sums


def test_casts_and_constants_inside_follow(write_onnx_text, half):
    model = half(write_onnx_text)
    assert {one.op_type for one in model.graph.node} >= {"Cast", "Resize", "Add"}
    (inner,) = [one for one in model.graph.node if one.name == "inner"]
    assert inner.attribute[0].i == HALF
    scales = next(one for one in model.graph.initializer if one.name == "scales")
    assert scales.data_type == FLOAT  # ONNX knows no other
    mask = next(one for one in model.graph.initializer if one.name == "mask")
    assert np.isfinite(onnx.numpy_helper.to_array(mask)).all()


@pytest.fixture
def write_onnx_text(write_onnx):
    text = """g (float[1,1,2,2] x, int64[1,1,4,4] ids) => (float[1,1,4,4] y) {
      [big] b = Resize<mode="nearest">(x, , scales)
      [inner] i = Cast<to=1>(ids)
      [sum] s = Add(b, i)
      [masked] y = Add(s, mask)
    }"""
    return write_onnx(
        text, scales=np.array([1, 1, 2, 2], np.float32), mask=np.full((1, 1, 4, 4), np.finfo(np.float32).min)
    )


def test_a_quantized_graph_is_refused_with_the_node(signed_model):
    with pytest.raises(ModelError, match="node 'q0': a quantized graph keeps the types that it has"):
        Half()(read_onnx(signed_model))
