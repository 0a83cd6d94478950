import onnx_ir as ir

from edgeprune.graph.cut import up_to


def test_a_graph_ends_at_a_value_and_the_given_one_stays_whole():
    text = """<ir_version: 10, opset_import: ["" : 20]>
g (float[batch, 4] x, float[batch, 4] other) => (float[batch, 4] y) {
  [a] one = Relu(x)
  [b] two = Neg(one)
  [c] y = Add(two, other)
}"""
    model = ir.from_onnx_text(text)
    part = up_to(model, ["one"])
    assert [node.name for node in part.graph] == ["a"]
    assert [value.name for value in part.graph.outputs] == ["one"]
    assert [value.name for value in part.graph.inputs] == ["x", "other"]
    assert [node.name for node in model.graph] == ["a", "b", "c"]
