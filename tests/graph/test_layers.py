import numpy as np
import pytest

from edgeprune.graph.layers import WeightedLayer, weighted_layers

TEXT = """(float[N, 4, 8, 8] x) => (float[N, N] y) {
  [depthwise] a = Conv<group = 4>(x, dw)
  [pointwise] b = Conv(a, pw)
  c = Flatten(b)
  [dense] d = Gemm<transB = 1>(c, fc)
  [product] e = MatMul(d, mm)
  turned = Transpose(e)
  [of_two_activations] y = MatMul(e, turned)
}"""


@pytest.fixture
def layers(parse) -> dict[str, WeightedLayer]:
    shapes = {"dw": (4, 1, 3, 3), "pw": (2, 4, 1, 1), "fc": (5, 72), "mm": (5, 3)}
    model = parse(TEXT, **{name: np.ones(shape, np.float32) for name, shape in shapes.items()})
    return {layer.name: layer for layer in weighted_layers(model)}


def test_layers_with_constant_weights_are_found_in_order(layers):
    found = [(layer.op, layer.weight, layer.weight_shape) for layer in layers.values()]
    assert found == [
        ("Conv", "dw", (4, 1, 3, 3)),
        ("Conv", "pw", (2, 4, 1, 1)),
        ("Gemm", "fc", (5, 72)),
        ("MatMul", "mm", (5, 3)),
    ]


def test_a_layer_knows_what_it_reads_and_writes_and_costs(layers):
    assert (layers["depthwise"].input, layers["depthwise"].output) == ("x", "a")
    assert layers["depthwise"].macs == 4 * 6 * 6 * 9
    assert layers["dense"].macs == 5 * 72


def test_depthwise_is_told_from_dense(layers):
    assert [layer.depthwise for layer in layers.values()] == [True, False, False, False]


def test_the_output_channels_are_counted_along_the_axis(layers):
    assert [layer.weight_shape[layer.axis] for layer in layers.values()] == [4, 2, 5, 3]


def test_a_recurrent_layer_is_known_by_its_first_weight_and_counts_both(parse):
    text = """(float[7, N, 3] x) => (float[7, 2, N, 5] y) {
      [memory] y = LSTM<hidden_size = 5, direction = "bidirectional">(x, w, r)
    }"""
    (layer,) = weighted_layers(parse(text, w=np.ones((2, 20, 3), np.float32), r=np.ones((2, 20, 5), np.float32)))
    assert (layer.op, layer.weight, layer.recurrence, layer.input) == ("LSTM", "w", "r", "x")
    assert layer.weights == ("w", "r")
    assert layer.macs == 7 * 2 * 20 * (3 + 5)
    assert layer.weight_shape[layer.axis] == 20


def test_a_table_that_the_inputs_choose_rows_of_is_a_layer_without_products(parse):
    text = "(int64[N, 7] ids) => (float[N, 7, 3] y) { [embedding] y = Gather(table, ids) }"
    (layer,) = weighted_layers(parse(text, table=np.ones((50, 3), np.float32)))
    assert (layer.op, layer.weight, layer.input, layer.macs) == ("Gather", "table", "ids", 0)
    assert layer.weight_shape[layer.axis] == 3


def test_a_lookup_that_is_none_of_an_embedding_is_no_layer(parse):
    integers = "(int64[N, 7] ids) => (int64[N, 7, 3] y) { y = Gather(table, ids) }"
    columns = "(int64[7] ids) => (float[50, 7] y) { y = Gather<axis = 1>(table, ids) }"
    from_shape = "(float[N, 3] x) => (float[2, 3] y) { ids = Shape(x)  y = Gather(table, ids) }"
    assert weighted_layers(parse(integers, table=np.ones((50, 3), np.int64))) == ()
    assert weighted_layers(parse(columns, table=np.ones((50, 3), np.float32))) == ()
    assert weighted_layers(parse(from_shape, table=np.ones((50, 3), np.float32))) == ()
