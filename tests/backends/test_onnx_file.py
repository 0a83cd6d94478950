from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgeprune.backends.onnx_file import checked_copy
from edgeprune.errors import CorruptError, ModelError


def test_the_copy_has_the_same_bytes(float_model, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    copy = checked_copy(float_model, out)
    assert copy == out / "model.onnx"
    assert copy.read_bytes() == float_model.read_bytes()


def test_tensors_that_lie_beside_the_file_travel_in_it(write_onnx, tmp_path):
    path = write_onnx(
        "g (float[1,4] x) => (float[1,4] y) { [product] y = MatMul(x, w) }", w=np.eye(4, dtype=np.float32)
    )
    apart = tmp_path / "apart.onnx"
    onnx.save(onnx.load(path), apart, save_as_external_data=True, location="w.bin", size_threshold=0)
    out = tmp_path / "out"
    out.mkdir()
    copy = checked_copy(apart, out)
    (tmp_path / "w.bin").unlink()
    assert [path.name for path in out.iterdir()] == ["model.onnx"]
    (found,) = onnx.load(copy).graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(found), np.eye(4))
    with pytest.raises(CorruptError, match=r"the file of tensor 'w' is missing: .*w\.bin"):
        checked_copy(apart, out)


@pytest.mark.parametrize("names", [("one", "one"), ("", "two")])
def test_nodes_that_evidence_could_not_tell_apart_are_refused(write_onnx, tmp_path, names):
    first, second = (f"[{name}]" if name else "" for name in names)
    path = write_onnx(f"g (float[1] x) => (float[1] y) {{ {first} a = Relu(x) {second} y = Relu(a) }}")
    with pytest.raises(ModelError, match="two nodes are called"):
        checked_copy(path, tmp_path)


@pytest.mark.parametrize("inputs", ["float[n,n] x", "float[batch,n] a, float[n] x"])
def test_a_batch_that_is_called_like_another_dimension_is_refused(write_onnx, tmp_path, inputs):
    path = write_onnx(f"g ({inputs}) => (float y) {{ [sum] y = ReduceSum<keepdims=0>(x) }}", "free.onnx")
    with pytest.raises(ModelError, match="input 'x' leads with 'n', as a dimension behind the first"):
        checked_copy(path, tmp_path)


def test_tensors_that_one_file_of_samples_could_not_tell_apart_are_refused(write_onnx, tmp_path):
    path = write_onnx("g (float[1] x) => (float[1] y) { [relu] y = Relu(x) }")
    model = onnx.load(path)
    model.graph.output[0].name = model.graph.node[0].output[0] = "x.npy"
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"samples cannot be kept of 'x' beside \['x\.npy'\]: rename it"):
        checked_copy(path, tmp_path)


def test_what_is_no_onnx_file_is_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(CorruptError):
        checked_copy(tmp_path / "text.onnx", tmp_path)
