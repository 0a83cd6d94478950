import onnx
import onnx_ir as ir

from edgeprune.graph.embedding import embedding_rows

GRAPH = """<ir_version: 10, opset_import: ["" : 20]>
g (int64[batch,4] ids, int64[batch,4] kinds, float[batch,4] x) => (float[batch,4,2] y, float[batch] z)
<float[3,2] table = {1,2,3,4,5,6}, float[2,2] narrow = {1,2,3,4}, float[5] row = {1,2,3,4,5}, int64 two = {2}> {
  small = Cast <to = 6> (ids)
  a = Gather(table, small)
  b = Gather(narrow, kinds)
  y = Add(a, b)
  z0 = Gather <axis = 1> (x, two)
  z = Identity(z0)
}"""


def test_each_input_that_is_looked_up_has_the_rows_of_its_table():
    model = ir.from_proto(onnx.parser.parse_model(GRAPH))
    assert embedding_rows(model) == {"ids": 3, "kinds": 2}
