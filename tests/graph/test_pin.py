import onnx
import onnx_ir as ir
import pytest

from edgeprune.errors import ConfigError, UnknownNameError
from edgeprune.graph.pin import pinned
from edgeprune.graph.specs import tensor_specs

GRAPH = """<ir_version: 10, opset_import: ["" : 20]>
g (float[batch,length,8] x, int64[batch,length] ids) => (float[batch,length,8] y) {
  mask = Cast <to = 1> (ids)
  axes = Constant <value_ints = [2]> ()
  wide = Unsqueeze(mask, axes)
  y = Mul(x, wide)
}"""


@pytest.fixture
def graph():
    return ir.from_proto(onnx.parser.parse_model(GRAPH))


def test_a_free_size_is_set_and_reaches_the_outputs(graph):
    fixed = pinned(graph, ["ids:int64[batch,16]", "x:float32[batch,16,8]"])
    assert [spec.shape for spec in tensor_specs(fixed.graph.inputs)] == [("batch", 16, 8), ("batch", 16)]
    assert tensor_specs(fixed.graph.outputs)[0].shape[1:] == (16, 8)
    assert tensor_specs(graph.graph.inputs)[0].shape == ("batch", "length", 8)


def test_without_a_word_a_graph_stays_what_it_is(graph):
    assert pinned(graph, []) is graph


@pytest.mark.parametrize("given", ["x:float16[1,16,8]", "x:float32[1,16]", "x:float32[1,16,9]"])
def test_what_the_input_cannot_be_is_refused_beside_what_it_is(graph, given):
    with pytest.raises(ConfigError, match=r"the model's input is x float32\[batch, length, 8\]"):
        pinned(graph, [given])


def test_a_name_that_is_no_input_gets_the_nearest(graph):
    with pytest.raises(UnknownNameError, match="ids"):
        pinned(graph, ["idz:int64[1,16]"])
