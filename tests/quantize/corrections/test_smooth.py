import numpy as np
import pytest
import torch

from edgeprune.export.to_onnx import export
from edgeprune.graph.cleanup import clean
from edgeprune.graph.load import read_onnx
from edgeprune.graph.save import write_onnx
from edgeprune.models.zoo import build, specs_of
from edgeprune.quantize.calibrate import calibrate
from edgeprune.quantize.corrections.smooth import Smooth, normalized_maxima
from edgeprune.quantize.emission.flavour import FLAVOURS
from edgeprune.quantize.emission.qdq import emit
from edgeprune.quantize.plan import uniform_plan

RNG = np.random.default_rng(0)
WIDTH, LENGTH, WORDS = 8, 16, 50
TEXT = {"vocabulary": WORDS, "length": LENGTH, "classes": 2, "task": "classification"}

BLOCK = """(float[N, 5, 8] x) => (float[N, 5, 8] y, float[N, 5, 8] z) {
  [norm] n = LayerNormalization<axis = -1>(x, g, b)
  q = MatMul(n, w1)
  [second] z = MatMul(n, w2)
  y = Add(q, n)
}"""


@pytest.fixture
def block(parse):
    scale = np.ones(WIDTH, np.float32)
    scale[3] = 60  # a channel of outliers
    weights = {name: RNG.normal(size=(WIDTH, WIDTH)).astype(np.float32) for name in ("w1", "w2")}
    return parse(BLOCK, g=scale, b=RNG.normal(size=WIDTH).astype(np.float32), **weights)


@pytest.fixture
def x() -> np.ndarray:
    return RNG.normal(size=(32, 5, WIDTH)).astype(np.float32)


def array(model, name: str) -> np.ndarray:
    return model.graph.initializers[name].const_value.numpy()


def test_maxima_are_those_of_each_channel_over_all_batches(block, x, evaluate):
    maxima = normalized_maxima(block, ({"x": part} for part in np.split(x, 4)))
    normalized = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    expected = np.abs(normalized * array(block, "g") + array(block, "b")).reshape(-1, WIDTH).max(axis=0)
    assert maxima.keys() == {"n"}
    np.testing.assert_allclose(maxima["n"], expected, rtol=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.95, 1.0])
def test_the_function_stays(block, x, evaluate, alpha):
    expected = evaluate(block, x=x)
    maxima = normalized_maxima(block, [{"x": x}])
    assert Smooth(maxima, alpha)(block).modified
    np.testing.assert_allclose(evaluate(block, x=x), expected, rtol=1e-4, atol=1e-4)


def test_inputs_and_weights_share_the_range_as_the_formula_says(block, x):
    before = normalized_maxima(block, [{"x": x}])["n"]
    w_before = np.maximum(*(np.abs(array(block, name)).max(axis=1) for name in ("w1", "w2")))
    Smooth({"n": before}, 0.5)(block)
    after = normalized_maxima(block, [{"x": x}])["n"]
    w_after = np.maximum(*(np.abs(array(block, name)).max(axis=1) for name in ("w1", "w2")))
    np.testing.assert_allclose(after, np.sqrt(before * w_before), rtol=1e-4)  # at alpha 0.5 both are the same
    np.testing.assert_allclose(w_after, np.sqrt(before * w_before), rtol=1e-4)


def test_a_sum_that_reads_it_too_reads_what_it_read(block, x):
    Smooth(normalized_maxima(block, [{"x": x}]))(block)
    assert [node.op_type for node in block.graph] == ["LayerNormalization", "Mul", "MatMul", "MatMul", "Add"]


def test_outliers_cost_less_in_8_bits(block, x, evaluate):
    """Both factors are rounded as a runtime would: inputs with one scale for all, weights with one a channel."""

    def error(model) -> float:
        (norm,) = [node for node in model.graph if node.op_type == "LayerNormalization"]
        graph_input = model.clone()
        value = next(node for node in graph_input.graph if node.name == norm.name).outputs[0]
        graph_input.graph.outputs.insert(0, value)
        n, w = evaluate(graph_input, x=x).astype(np.float64), array(model, "w1").astype(np.float64)
        steps, scales = np.abs(n).max() / 127, np.abs(w).max(axis=0) / 127
        product = (np.rint(n / steps) * steps) @ (np.rint(w / scales) * scales)
        return float(((product - n @ w) ** 2).mean())

    plain = error(block)
    Smooth(normalized_maxima(block, [{"x": x}]), 0.5)(block)
    assert error(block) < plain / 3


def test_a_shared_scale_of_two_normalizations_is_smoothed_for_each(parse, evaluate, x):
    text = """(float[N, 5, 8] x) => (float[N, 5, 8] y) {
      [one] n = LayerNormalization<axis = -1>(x, g, b)
      p = MatMul(n, w1)
      [two] m = LayerNormalization<axis = -1>(p, g, b)
      y = MatMul(m, w2)
    }"""
    weights = {name: RNG.normal(size=(WIDTH, WIDTH)).astype(np.float32) for name in ("w1", "w2")}
    model = parse(text, g=np.ones(WIDTH, np.float32), b=np.zeros(WIDTH, np.float32), **weights)
    expected = evaluate(model, x=x)
    Smooth(normalized_maxima(model, [{"x": x}]))(model)
    np.testing.assert_allclose(evaluate(model, x=x), expected, rtol=1e-4, atol=1e-4)


def test_bert_computes_what_it_computed(evaluate, tmp_path):
    torch.manual_seed(0)
    bert = build("bert-mini", TEXT).eval()
    with torch.no_grad():
        for parameter in bert.parameters():
            if parameter.ndim == 1:  # norms and biases, which start as ones and zeros
                parameter.add_(0.1 * torch.randn_like(parameter))
    export(bert, specs_of(TEXT), tmp_path / "m.onnx")
    model = read_onnx(tmp_path / "m.onnx")
    feeds = {str(value.name): RNG.integers(1, 2, (4, LENGTH)) for value in model.graph.inputs}
    feeds["input_ids"] = RNG.integers(1, WORDS, (4, LENGTH))
    expected = evaluate(model, **feeds)
    maxima = normalized_maxima(model, [feeds])
    assert (
        len(maxima) == sum(node.op_type == "LayerNormalization" for node in model.graph) - 1
    )  # the pooler's is sliced
    Smooth(maxima)(model)
    np.testing.assert_allclose(evaluate(model, **feeds), expected, rtol=1e-4, atol=1e-5)


def test_what_was_smoothed_can_be_quantized(parse, tmp_path):
    """Two normalizations that share their constants get some of their own, by names that Q/DQ pairs leave free."""
    text = """(float[N, 3, 4] x) => (float[N, 3, 5] y) {
        [a] a = LayerNormalization(x, g, c)  [b] b = MatMul(a, w)
        [d] d = LayerNormalization(b, g, c)  [y] y = MatMul(d, v)
    }"""
    rng = np.random.default_rng(0)
    shapes = {"g": (4,), "c": (4,), "w": (4, 4), "v": (4, 5)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    model, x = clean(parse(text, **weights)), {"x": rng.normal(size=(16, 3, 4)).astype(np.float32)}
    smoothed = Smooth(normalized_maxima(model, [x]))(model).model
    write_onnx(smoothed, tmp_path / "smooth.onnx")
    ranges = calibrate(tmp_path / "smooth.onnx", [x])
    for flavour in FLAVOURS.values():
        emit(smoothed, uniform_plan(smoothed, "int8"), ranges, flavour)
