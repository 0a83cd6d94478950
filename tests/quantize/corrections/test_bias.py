import numpy as np
import pytest

from edgeprune.quantize.corrections.bias import bias_place
from edgeprune.quantize.corrections.matrix import product_layers

WEIGHT = np.ones((3, 3), np.float32)
BIAS = np.array([1, 2, 3], np.float32)


def place_of(model):
    ((node, layer),) = product_layers(model)
    return bias_place(node, layer)


def test_the_bias_of_a_gemm_is_its_third_input(parse):
    place = place_of(parse("(float[N, 3] x) => (float[N, 3] y) { y = Gemm(x, w, b) }", w=WEIGHT, b=BIAS))
    assert place is not None
    np.testing.assert_array_equal(place.numbers(), BIAS)


def test_the_bias_of_a_matmul_is_what_alone_is_added_to_it(parse):
    text = "(float[N, 3] x) => (float[N, 3] y) { p = MatMul(x, w) y = Add(b, p) }"
    place = place_of(parse(text, w=WEIGHT, b=BIAS))
    assert place is not None
    assert (place.node.op_type, place.index) == ("Add", 0)
    np.testing.assert_array_equal(place.numbers(), BIAS)


@pytest.mark.parametrize(
    "body",
    ["y = MatMul(x, w)", "p = MatMul(x, w) y = Relu(p)", "p = MatMul(x, w) y = Add(p, x)", "y = Gemm(x, w, x)"],
    ids=["nothing follows", "no sum follows", "a computed sum", "a computed bias"],
)
def test_other_biases_are_left_alone(parse, body):
    assert place_of(parse(f"(float[3, 3] x) => (float[3, 3] y) {{ {body} }}", w=WEIGHT)) is None


def test_a_layer_without_a_bias_gets_one(parse):
    model = parse("(float[N, 3] x) => (float[N, 3] y) { [layer] y = Gemm(x, w) }", w=WEIGHT)
    place = place_of(model)
    assert not place.exists
    np.testing.assert_array_equal(place.numbers(), np.zeros(3))
    place.put(BIAS)
    assert place.exists
    np.testing.assert_array_equal(model.graph.initializers["layer/corrected_bias"].const_value.numpy(), BIAS)


def test_a_shared_bias_stays_what_it_is_for_others(parse):
    text = "(float[N, 3] x) => (float[N, 3] y) { [one] h = Gemm(x, w, b) [two] y = Gemm(h, w, b) }"
    model = parse(text, w=WEIGHT, b=BIAS)
    (node, layer), _ = product_layers(model)
    place = bias_place(node, layer)
    place.put(2 * place.numbers())
    one, two = (node.inputs[2].const_value.numpy() for node in model.graph)
    np.testing.assert_array_equal(one, 2 * BIAS)
    np.testing.assert_array_equal(two, BIAS)


def test_a_bias_keeps_its_shape_and_one_number_becomes_many(parse):
    text = "(float[N, 3] x) => (float[N, 3] y) { y = Gemm(x, w, b) }"
    for bias, shape in ((BIAS.reshape(1, 3), (1, 3)), (np.ones(1, np.float32), (3,))):
        model = parse(text, w=WEIGHT, b=bias)
        place = place_of(model)
        place.put(place.numbers() + 1)
        assert model.graph.initializers["b"].const_value.numpy().shape == shape
