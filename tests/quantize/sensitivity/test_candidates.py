import numpy as np
import pytest

from edgeprune.quantize.affine import dequantize
from edgeprune.quantize.constants import array
from edgeprune.quantize.emission.flavour import FLAVOURS
from edgeprune.quantize.emission.qdq import emit
from edgeprune.quantize.plan import uniform_plan
from edgeprune.quantize.sensitivity.candidates import input_ranges, nearest
from edgeprune.quantize.spec import LIMITS, QParams, Range

RNG = np.random.default_rng(0)
READER = """(int64[batch, 6] ids) => (float[batch, 8] last) {
  x = Gather(table, ids)  t = Transpose<perm = [1, 0, 2]>(x)
  [memory] h, last_state = LSTM<hidden_size = 8>(t, w, r)  last = Squeeze(last_state, first)
}"""


def drawn(*shape: int) -> np.ndarray:
    """Every row of another size, so that scales tell which rows they are of."""
    return (RNG.normal(size=shape) * 10 ** RNG.uniform(-2, 0, (*shape[:-1], 1))).astype(np.float32)


def test_in_int8_a_weight_is_what_its_emitted_integers_stand_for(digits):
    emitted = emit(digits.model, uniform_plan(digits.model, "int8"), digits.ranges, FLAVOURS["ort"]).graph.initializers
    for weight, found in nearest(digits.model).items():
        scale = array(emitted[f"{weight}/scale"])
        q = QParams(scale, np.zeros(scale.shape, np.int8))
        np.testing.assert_array_equal(found["int8"], dequantize(array(emitted[weight]), q))


@pytest.mark.parametrize(("precision", "limit"), LIMITS.items())
def test_rounding_errs_by_half_a_step_of_the_channel(digits, precision, limit):
    for weight, found in nearest(digits.model).items():
        real = array(digits.model.graph.initializers[weight])
        others = tuple(range(1, real.ndim))
        steps = np.abs(real).max(axis=others, keepdims=True) / limit
        assert (np.abs(found[precision] - real) <= steps * 0.5001).all()


def test_a_table_and_a_recurrent_layer_have_scales_of_their_own_kind(parse):
    weights = {"table": drawn(20, 4), "w": drawn(1, 32, 4), "r": drawn(1, 32, 8), "first": np.array([0])}
    model = parse(READER, **weights)
    found = nearest(model)
    assert found.keys() == {"table", "w", "r"}
    for name, groups in (("table", 20), ("w", 32), ("r", 1)):
        rows = found[name]["int4"].reshape(groups, -1)
        largest = np.abs(rows).max(axis=1, keepdims=True)
        np.testing.assert_allclose(
            largest, np.abs(weights[name].reshape(groups, -1)).max(axis=1, keepdims=True), rtol=1e-6
        )
        np.testing.assert_allclose(rows / largest * 7, np.rint(rows / largest * 7), atol=1e-4)


def test_a_layer_behind_what_only_moves_values_reads_within_their_range(parse):
    model = parse(
        """(float[batch, 2, 4, 4] x) => (float[batch, 3] y) {
          a = Conv(x, w)  b = Relu(a)  m = MaxPool<kernel_shape = [2, 2]>(b)  f = Flatten(m)  y = Gemm<transB = 1>(f, v)
        }""",
        w=drawn(2, 2, 1, 1),
        v=drawn(3, 18),
    )
    ranges = {"x": Range(-1, 1), "b": Range(0, 2)}
    assert input_ranges(model, ranges) == {"w": Range(-1, 1), "v": Range(0, 2)}
    assert input_ranges(model, {}) == {}
