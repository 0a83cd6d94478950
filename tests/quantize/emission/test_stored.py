"""What corrections reckon with is what the file says, weight by weight."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from edgeprune.graph.cleanup import clean
from edgeprune.quantize.corrections.bias_correction import correct_biases, mean_columns
from edgeprune.quantize.corrections.rounding import round_weights
from edgeprune.quantize.emission.blocks import block_size
from edgeprune.quantize.emission.flavour import FLAVOURS, fitted, in_blocks
from edgeprune.quantize.emission.qdq import emit
from edgeprune.quantize.emission.stored import stored_weights
from edgeprune.quantize.plan import uniform_plan
from edgeprune.quantize.spec import LayerQuant, QuantPlan, Range

RNG = np.random.default_rng(0)
NETWORK = """(float[batch, 4, 4, 4] input) => (float[batch, 6] output) {
  [stem] a = Conv<pads = [1, 1, 1, 1]>(input, w_stem, b_stem)  b = Relu(a)  f = Flatten(b)
  [first] c = Gemm<transB = 1>(f, w_first, b_first)  d = Relu(c)
  [second] e = MatMul(d, w_second)  g = Add(e, b_second)  h = Relu(g)
  [last] output = Gemm(h, w_last, b_last)
}"""
SHAPES = {"stem": (8, 4, 3, 3), "first": (256, 8 * 4 * 4), "second": (256, 48), "last": (48, 6)}
CHANNELS = {"stem": 8, "first": 256, "second": 48, "last": 6}
DIALECTS = FLAVOURS | {f"{name}, 7 bits": FLAVOURS[name].reduced() for name in ("ort", "openvino")}
IN_FOUR = {name: {f"w_{layer}" for layer in SHAPES} for name in DIALECTS}
IN_FOUR["tensorrt"] -= {"w_stem"}


@pytest.fixture(scope="module")
def model(parse) -> ir.Model:
    weights = {f"w_{name}": RNG.normal(size=shape) * 10 ** RNG.uniform(-1, 0, shape) for name, shape in SHAPES.items()}
    biases = {f"b_{name}": RNG.normal(size=count) for name, count in CHANNELS.items()}
    return clean(parse(NETWORK, **{name: array.astype(np.float32) for name, array in (weights | biases).items()}))


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    mixed = np.einsum("dc,nchw->ndhw", RNG.normal(size=(4, 4)), RNG.normal(size=(200, 4, 4, 4)))
    return (mixed + 1).astype(np.float32)


def ranges(model: ir.Model) -> dict[str, Range]:
    names = [value.name for node in model.graph for value in node.outputs]
    return {str(name): Range(-50.0, 50.0) for name in ("input", *names)}


def all_in_four(model: ir.Model, flavour, **wide: tuple[int, ...]) -> QuantPlan:
    plan = uniform_plan(model, "int4")
    if not flavour.stores_blocks:
        plan.layers.update({f"w_{name}": LayerQuant("int4", wide=channels) for name, channels in wide.items()})
    return plan


def rounded_for(model: ir.Model, plan: QuantPlan, flavour, samples: np.ndarray):
    chosen = fitted(plan, model, flavour)
    sizes = {name: block_size(layer) for name, layer in in_blocks(chosen, model, flavour).items()}
    return round_weights(model, chosen, lambda: [{"input": samples}], blocks=sizes)


def in_the_file(emitted: ir.Model, weights: set[str]) -> dict[str, np.ndarray]:
    """What its DequantizeLinear make of the stored integers."""
    graph, names = emitted.graph, [f"{weight}/dequantized" for weight in sorted(weights)]
    values = ir.convenience.create_value_mapping(graph)
    graph.outputs.extend(values[name] for name in names)
    found = ReferenceEvaluator(ir.to_proto(emitted)).run(names, {"input": np.zeros((1, 4, 4, 4), np.float32)})
    return dict(zip(sorted(weights), found, strict=True))


@pytest.mark.parametrize("rounds", [False, True], ids=["nearest", "rounded"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_they_are_the_weights_of_the_emitted_file(model, samples, dialect, rounds):
    flavour = DIALECTS[dialect]
    plan = all_in_four(model, flavour, stem=(1, 5), second=(0, 7, 40))
    rounded = rounded_for(model, plan, flavour, samples) if rounds else {}
    stored = stored_weights(model, plan, flavour, rounded, precisions=("int4",))
    assert stored.keys() == IN_FOUR[dialect]
    emitted = in_the_file(emit(model, plan, ranges(model), flavour, rounded), IN_FOUR[dialect])
    for name, real in emitted.items():
        np.testing.assert_array_equal(stored[name], real, err_msg=name)
    for name in rounded.keys() & {"w_first", "w_last"}:  # no channel of them keeps 8 bits
        np.testing.assert_allclose(emitted[name], rounded[name].weight, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("dialect", ["ort", "tensorrt"])
def test_each_layers_mean_stays_with_the_weights_of_the_emitted_file(model, samples, dialect):
    """On inputs from the float network: b + W E[x] is the same for the corrected bias and the stored weight."""
    flavour, plan = FLAVOURS[dialect], uniform_plan(model, "int4")
    means = mean_columns(model, [{"input": samples}])
    corrected = correct_biases(model, stored_weights(model, plan, flavour), means)
    emitted = in_the_file(emit(corrected, plan, ranges(model), flavour), IN_FOUR[dialect])
    for name, transposed in (("first", True), ("second", False), ("last", False)):
        real, stored = model.graph.initializers[f"w_{name}"].const_value.numpy(), emitted[f"w_{name}"]
        biases = [graph.graph.initializers[f"b_{name}"].const_value.numpy() for graph in (model, corrected)]
        mean = means[name][0]
        expected, found = (
            bias + (w if transposed else w.T) @ mean for bias, w in zip(biases, (real, stored), strict=True)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
