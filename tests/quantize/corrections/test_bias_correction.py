import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.quantize.corrections.bias_correction import correct_biases, mean_columns
from edgeprune.quantize.corrections.matrix import product_layers
from edgeprune.quantize.stream import values

RNG = np.random.default_rng(0)

IMAGES = """(float[N, 4, 6, 6] x) => (float[N, 5, 6, 6] y) {
  [first] a = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
  r = Relu(a)
  [strided] s = Conv<group = 2, strides = [2, 2], pads = [2, 0, 1, 1]>(r, w2)
  [up] u = Resize<mode = "nearest">(s, , , sizes)
  [last] y = Conv<pads = [1, 1, 1, 1]>(u, w3, b3)
}"""
TOKENS = """(float[N, 7, 4] x) => (float[N, 7, 5] y) {
  [first] p = MatMul(x, w1)
  a = Add(b1, p)
  r = Relu(a)
  [bare] q = MatMul(r, w2)
  t = Tanh(q)
  [last] z = MatMul(t, w3)
  y = Add(z, b3)
}"""
WEIGHTS = {
    IMAGES: {"w1": (6, 4, 3, 3), "b1": (6,), "w2": (4, 3, 3, 3), "w3": (5, 4, 3, 3), "b3": (5,)},
    TOKENS: {"w1": (4, 6), "b1": (6,), "w2": (6, 4), "w3": (4, 5), "b3": (5,)},
}


def model_of(parse, text: str) -> ir.Model:
    weights = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in WEIGHTS[text].items()}
    return parse(text, sizes=np.array([32, 4, 6, 6]), **weights)


def means(model: ir.Model, x: np.ndarray) -> dict[str, np.ndarray]:
    """By layer: the mean [C] of what it gives, its bias included."""
    ends = {}
    for node, layer in product_layers(model):
        readers = node.outputs[0].consumers()
        end = readers[0] if readers and readers[0].op_type == "Add" else node
        ends[layer.name] = (str(end.outputs[0].name), 1 if layer.op == "Conv" else -1)
    (found,) = values(model, [name for name, _ in ends.values()], [{"x": x}])
    return {
        layer: np.moveaxis(found[name], axis, 0).reshape(found[name].shape[axis], -1).mean(axis=1)
        for layer, (name, axis) in ends.items()
    }


@pytest.mark.parametrize("text", WEIGHTS, ids=["images", "tokens"])
def test_the_mean_of_each_layer_stays(parse, text):
    """Each on inputs from the float network: one layer is rounded at a time."""
    model = model_of(parse, text)
    shape = (32, 4, 6, 6) if text is IMAGES else (32, 7, 4)
    x = (RNG.normal(size=shape) + 1).astype(np.float32)
    expected = means(model, x)
    for node, layer in product_layers(model):
        real = model.graph.initializers[layer.weight].const_value.numpy()
        rounded = {layer.weight: np.rint(real)}
        corrected = correct_biases(model, rounded, mean_columns(model, ({"x": part} for part in [x[:32]])))
        corrected.graph.initializers[layer.weight].const_value = ir.tensor(rounded[layer.weight], name=layer.weight)
        found = means(corrected, x)[layer.name]
        if layer.name == "bare":
            assert not np.allclose(found, expected[layer.name], atol=1e-3)  # it has no bias to correct
        else:
            np.testing.assert_allclose(found, expected[layer.name], atol=1e-4, err_msg=str(node.name))


def test_how_samples_are_batched_changes_nothing(parse):
    model = model_of(parse, TOKENS)
    x = RNG.normal(size=(32, 7, 4)).astype(np.float32)
    rounded = {name: np.rint(model.graph.initializers[name].const_value.numpy()) for name in ("w1", "w3")}
    whole = correct_biases(model, rounded, mean_columns(model, [{"x": x}]))
    parts = correct_biases(model, rounded, mean_columns(model, ({"x": part} for part in (x[:20], x[20:30], x[30:]))))
    for name in ("b1", "b3"):
        one, other = (given.graph.initializers[name].const_value.numpy() for given in (whole, parts))
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_weights_and_the_given_model_stay(parse):
    model = model_of(parse, TOKENS)
    before = {name: value.const_value.numpy().copy() for name, value in model.graph.initializers.items()}
    rounded = {"w1": np.rint(before["w1"])}
    corrected = correct_biases(model, rounded, mean_columns(model, [{"x": np.ones((32, 7, 4), np.float32)}]))
    for name, numbers in before.items():
        np.testing.assert_array_equal(model.graph.initializers[name].const_value.numpy(), numbers)
        if name != "b1":
            np.testing.assert_array_equal(corrected.graph.initializers[name].const_value.numpy(), numbers)
    assert (corrected.graph.initializers["b1"].const_value.numpy() != before["b1"]).any()


def test_an_exact_weight_changes_no_bias(parse):
    model = model_of(parse, IMAGES)
    exact = {name: model.graph.initializers[name].const_value.numpy() for name in ("w1", "w3")}
    corrected = correct_biases(
        model, exact, mean_columns(model, [{"x": RNG.normal(size=(32, 4, 6, 6)).astype(np.float32)}])
    )
    for name in ("b1", "b3"):
        real, found = (given.graph.initializers[name].const_value.numpy() for given in (model, corrected))
        np.testing.assert_array_equal(real, found)
