import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from edgeprune.quantize.emission.packing import OPSET, add_integers


def reader(integers: np.ndarray, **how) -> ir.Model:
    """A graph whose output is what is stored."""
    x = ir.val("x", ir.DataType.FLOAT, (1,))
    graph = ir.Graph([x], [], nodes=[ir.node("Identity", [x], name="x_too")], opset_imports={"": OPSET}, name="g")
    graph[0].outputs[0].name = "y"
    stored = add_integers(graph, "w", integers, **how)
    last = ir.node("Identity", [stored], name="read", outputs=[ir.val("read", ir.DataType.INT8, integers.shape)])
    graph.append(last)
    graph.outputs.extend([last.outputs[0]])
    return ir.Model(graph, ir_version=10)


def read_back(model: ir.Model) -> np.ndarray:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    (found,) = ReferenceEvaluator(proto).run(None, {"x": np.zeros(1, np.float32)})
    return found


@settings(deadline=None, max_examples=30)
@given(st.data(), st.integers(0, 2), st.integers(2, 7))
def test_what_is_stored_is_what_comes_out_whatever_has_eight_bits(data, axis, channels):
    shape = [3, 2, 5]
    shape[axis] = channels
    wide = sorted(data.draw(st.sets(st.integers(0, channels - 1), max_size=channels - 1)))
    integers = np.random.default_rng(channels).integers(-7, 8, shape).astype(np.int8)
    channel = [slice(None)] * 3
    channel[axis] = wide
    integers[tuple(channel)] *= 18  # beyond what four bits hold
    found = read_back(reader(integers, four=True, wide=wide, axis=axis))
    np.testing.assert_array_equal(found, integers)


@pytest.mark.parametrize("count", [6, 7])
def test_two_of_four_bits_share_a_byte_in_the_file(count):
    model = reader(np.arange(count, dtype=np.int8), four=True)
    (tensor,) = ir.to_proto(model).graph.initializer
    assert (tensor.name, tensor.data_type) == ("w", onnx.TensorProto.INT4)
    assert len(tensor.raw_data) == (count + 1) // 2


def test_eight_bits_are_stored_as_they_are():
    integers = np.array([[-128, 127]], np.int8)
    model = reader(integers)
    assert len(model.graph) == 2
    np.testing.assert_array_equal(read_back(model), integers)
