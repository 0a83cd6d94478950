import itertools

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.quantize.corrections.matrix import as_weight, matrix, product_layers
from edgeprune.quantize.corrections.rounding import best_scale, round_rows, round_weights
from edgeprune.quantize.plan import uniform_plan
from edgeprune.quantize.spec import LIMITS, LayerQuant, QuantPlan, Rounded

RNG = np.random.default_rng(0)

CHAIN = """(float[N, 4, 6, 6] input) => (float[N, 5, 6, 6] output) {
  [first] a = Conv<pads = [1, 1, 1, 1]>(input, w1, b1)
  r = Relu(a)
  [depthwise] d = Conv<group = 6, pads = [1, 1, 1, 1]>(r, w2)
  [last] output = Conv(d, w3)
}"""
SHAPES = {"w1": (6, 4, 3, 3), "b1": (6,), "w2": (6, 1, 3, 3), "w3": (5, 6, 1, 1)}


def correlated(samples: int, count: int) -> np.ndarray:
    """Inputs that can make up for each other, [count, samples]."""
    return (RNG.normal(size=(count, count)) @ RNG.normal(size=(count, samples))).astype(np.float64)


def error(rounded: np.ndarray, real: np.ndarray, h: np.ndarray) -> float:
    return float((((rounded - real) @ h) * (rounded - real)).sum())


def nearest(weight: np.ndarray, scale: np.ndarray, limit: int = 7) -> np.ndarray:
    return np.clip(np.rint(weight / scale[:, None]), -limit, limit) * scale[:, None]


@pytest.fixture(scope="module")
def chain(parse) -> ir.Model:
    return parse(CHAIN, **{name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()})


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    mixed = np.einsum("dc,nchw->ndhw", RNG.normal(size=(4, 4)), RNG.normal(size=(48, 4, 6, 6)))
    return mixed.astype(np.float32)


def batches(samples: np.ndarray):
    return lambda: ({"input": samples[start : start + 20]} for start in range(0, len(samples), 20))


def int4_plan(model: ir.Model, **wide: tuple[int, ...]) -> QuantPlan:
    layers = uniform_plan(model, "int8").layers
    return QuantPlan({name: LayerQuant("int4", wide=wide.get(name, ())) for name in layers})


def with_weights(model: ir.Model, rounded) -> ir.Model:
    changed = model.clone()
    for name, one in rounded.items():
        changed.graph.initializers[name].const_value = ir.tensor(one.weight, name=name)
    return changed


def output_error(model, rounded, samples, evaluate) -> float:
    expected = evaluate(model, input=samples)
    return float(((evaluate(with_weights(model, rounded), input=samples) - expected) ** 2).mean())


def test_where_inputs_are_independent_the_nearest_is_the_best():
    weight, scale = RNG.normal(size=(3, 8)), np.full(3, 0.3)
    np.testing.assert_array_equal(round_rows(weight, scale, np.eye(8), 7), nearest(weight, scale))


def test_rounding_comes_near_the_best_of_all_roundings():
    x = correlated(100, 6)
    h, scale = x @ x.T, np.full(1, 0.3)
    gaps = []
    for _ in range(20):
        weight = RNG.normal(size=(1, 6)) * 0.5
        floors = np.floor(weight / scale)
        best = min(
            error((floors + np.array(up)) * scale, weight, h) for up in itertools.product((0, 1), repeat=weight.size)
        )
        found, plain = (error(one, weight, h) for one in (round_rows(weight, scale, h, 7), nearest(weight, scale)))
        gaps.append((found - best) / (plain - best) if plain > best else 0.0)
    assert np.mean(gaps) < 0.25  # of the way from the best to the nearest


def test_a_scale_is_never_worse_than_that_of_the_largest_weight():
    weight = np.concatenate([RNG.normal(size=(4, 200)), np.full((4, 1), 8.0)], axis=1)
    full, best = np.abs(weight).max(axis=1) / 7, best_scale(weight, 7)
    errors = [((nearest(weight, scale) - weight) ** 2).sum(axis=1) for scale in (best, full)]
    assert (errors[0] < errors[1]).all()
    assert (best < full).all()


@pytest.mark.parametrize("sequential", [True, False])
def test_what_is_rounded_is_multiples_of_its_scale(chain, samples, sequential):
    rounded = round_weights(chain, int4_plan(chain, w1=(2,)), batches(samples), sequential=sequential)
    assert rounded.keys() == {"w1", "w2", "w3"}
    for name, one in rounded.items():
        assert one.weight.shape == SHAPES[name]
        assert one.weight.dtype == one.scale.dtype == np.float32
        steps = (one.weight / one.scale.reshape(-1, 1, 1, 1)).reshape(len(one.scale), -1)
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
        largest = np.abs(steps).max(axis=1)
        limits = [LIMITS["int8" if name == "w1" and channel == 2 else "int4"] for channel in range(len(largest))]
        assert (largest <= np.array(limits) + 1e-4).all()


@pytest.fixture(scope="module")
def dense(parse) -> ir.Model:
    """Inputs of very different size, so that a block of them wants other steps than the next."""
    text = """(float[N, 64] input) => (float[N, 6] output) {
      a = MatMul(input, v)  r = Relu(a)  output = Gemm<transB = 1>(r, w, b)
    }"""
    v, w = RNG.normal(size=(64, 48)), RNG.normal(size=(6, 48))
    v[:32] *= 0.05
    w[:, 16:32] *= 0.05
    return parse(text, **{name: array.astype(np.float32) for name, array in (("v", v), ("w", w), ("b", np.zeros(6)))})


@pytest.mark.parametrize("sequential", [True, False])
def test_in_blocks_what_is_rounded_is_multiples_of_its_blocks_scale(dense, evaluate, sequential):
    x = (RNG.normal(size=(256, 64)) @ RNG.normal(size=(64, 64)) / 8).astype(np.float32)
    rounded = {
        sizes: round_weights(dense, int4_plan(dense), batches(x), blocks=dict(sizes), sequential=sequential)
        for sizes in ((), (("v", 32), ("w", 16)))
    }
    for name, one in rounded[("v", 32), ("w", 16)].items():
        rows, size = (one.weight.T, 32) if name == "v" else (one.weight, 16)
        assert one.scale.shape == (len(rows), rows.shape[1] // size)
        steps = rows.reshape(*one.scale.shape, size) / one.scale[..., None]
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
        assert np.abs(steps).max() == pytest.approx(7, abs=1e-4)
    channels, blocks = (output_error(dense, one, x, evaluate) for one in rounded.values())
    assert blocks < 0.7 * channels


def test_a_wide_channel_is_the_nearest_of_8_bits(chain, samples):
    real = chain.graph.initializers["w1"].const_value.numpy()
    one = round_weights(chain, int4_plan(chain, w1=(0, 3)), batches(samples))["w1"]
    for channel in (0, 3):
        assert one.scale[channel] == pytest.approx(np.abs(real[channel]).max() / 127)
        assert np.abs(one.weight[channel] - real[channel]).max() <= one.scale[channel] / 2 * (1 + 1e-5)


def test_outputs_are_kept_better_than_by_the_nearest(chain, samples, evaluate):
    plain = {}
    for _, layer in product_layers(chain):
        flat = matrix(chain.graph.initializers[layer.weight].const_value.numpy(), layer)
        scale = best_scale(flat.reshape(-1, flat.shape[2]).astype(np.float64), 7)
        rounded = nearest(flat.reshape(-1, flat.shape[2]), scale).reshape(flat.shape)
        plain[layer.weight] = Rounded(as_weight(rounded, layer).astype(np.float32), scale.astype(np.float32))
    one_pass = round_weights(chain, int4_plan(chain), batches(samples), sequential=False)
    sequential = round_weights(chain, int4_plan(chain), batches(samples))
    errors = [output_error(chain, one, samples, evaluate) for one in (sequential, one_pass, plain)]
    assert errors[0] < errors[1] < errors[2]


def test_layers_that_keep_8_bits_are_left_out(chain, samples):
    plan = int4_plan(chain)
    plan.layers["w2"] = LayerQuant("int8")
    assert round_weights(chain, plan, batches(samples)).keys() == {"w1", "w3"}


def test_how_samples_are_batched_changes_nothing_that_counts(chain, samples):
    whole = round_weights(chain, int4_plan(chain), lambda: [{"input": samples}])
    parts = round_weights(chain, int4_plan(chain), batches(samples))
    for name, one in whole.items():
        np.testing.assert_allclose(one.weight, parts[name].weight, atol=1e-5)


def test_an_input_that_is_always_zero_stops_nothing(chain, samples):
    dark = samples.copy()
    dark[:, 1] = 0
    for one in round_weights(chain, int4_plan(chain), batches(dark)).values():
        assert np.isfinite(one.weight).all()


def test_a_finished_layer_is_taken_up_from_its_folder(chain, samples, tmp_path):
    expected = round_weights(chain, int4_plan(chain), batches(samples), folder=tmp_path)
    (tmp_path / "1.npz").unlink()
    (tmp_path / "2.npz").rename(tmp_path / "2.partial.npz")
    runs = 0

    def counted():
        nonlocal runs
        runs += 1
        return batches(samples)()

    again = round_weights(chain, int4_plan(chain), counted, folder=tmp_path)
    assert runs == 2 * 2  # two layers, in float and rounded
    for name, one in expected.items():
        np.testing.assert_array_equal(one.weight, again[name].weight)
        np.testing.assert_array_equal(one.scale, again[name].scale)


def test_a_weight_that_several_layers_read_is_rounded_once_for_all(parse):
    text = "(float[N, 8] input) => (float[N, 8] output) { a = MatMul(input, w) r = Relu(a) output = MatMul(r, w) }"
    model = parse(text, w=RNG.normal(size=(8, 8)).astype(np.float32))
    rounded = round_weights(model, int4_plan(model), lambda: [{"input": RNG.normal(size=(64, 8)).astype(np.float32)}])
    assert rounded["w"].weight.shape == (8, 8)
    steps = rounded["w"].weight / rounded["w"].scale  # channels are columns
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
