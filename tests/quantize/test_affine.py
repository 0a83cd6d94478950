import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeprune.quantize.affine import WIDER, asymmetric, balanced, dequantize, per_channel, quantize, symmetric
from edgeprune.quantize.spec import QParams, Range

BOUNDS = st.floats(-1e6, 1e6, width=32)
RANGES = st.tuples(BOUNDS, BOUNDS).map(lambda pair: Range(min(pair), max(pair)))
CHOOSERS = pytest.mark.parametrize("choose", [asymmetric, symmetric, balanced])


@CHOOSERS
@given(span=RANGES, position=st.floats(0, 1))
def test_inside_the_range_the_error_is_at_most_half_a_step(choose, span, position):
    q = choose(span)
    x = np.float32(span.low + position * (span.high - span.low))
    error = abs(float(dequantize(quantize(x, q), q)) - float(x))
    rounding = 1e-6 * max(abs(span.low), abs(span.high))  # of x and the scale in float32
    if q.zero_point != 0:  # rounding the zero point moves the grid by up to half a step, cutting it off at one end
        at_end = min(x - span.low, span.high - x) <= float(q.scale) / 2 + rounding
        assert error <= float(q.scale) * (1 if at_end else 0.5) + rounding
    else:
        assert error <= float(q.scale) / 2 + rounding


@CHOOSERS
@given(span=RANGES)
def test_zero_is_exact_and_the_scale_positive(choose, span):
    q = choose(span)
    assert q.scale > 0
    assert dequantize(quantize(np.float32(0), q), q) == 0


@given(span=RANGES)
def test_a_range_that_starts_at_zero_has_its_zero_point_at_the_end(span):
    assert asymmetric(Range(0, abs(span.high))).zero_point == 0
    assert symmetric(span).zero_point == 0


@given(span=RANGES)
def test_a_range_is_centred_on_zero_only_where_that_costs_little(span):
    q, finest = balanced(span), asymmetric(span)
    assert q.scale <= finest.scale * WIDER * 255 / 254
    if q.zero_point != 0:
        assert np.array_equal(q.zero_point, finest.zero_point)


@pytest.mark.parametrize(
    ("span", "zero_point"),
    [(Range(-2.1, 2.6), 0), (Range(-0.28, 6), asymmetric(Range(-0.28, 6)).zero_point), (Range(0, 6), 0)],
    ids=["an image", "behind a SiLU", "behind a ReLU"],
)
def test_a_zero_point_is_0_unless_the_range_lies_to_one_side(span, zero_point):
    assert balanced(span).zero_point == zero_point


@CHOOSERS
def test_numbers_outside_the_range_are_clipped_to_its_end(choose):
    q = choose(Range(0, 10))
    assert dequantize(quantize(np.float32(1e9), q), q) == pytest.approx(10)


@pytest.mark.parametrize("limit", [127, 64])
@given(
    weight=arrays.arrays(np.float32, (3, 2, 2), elements=st.floats(-100, 100, width=32)),
    axis=st.sampled_from([0, 1, 2]),
)
def test_each_channel_of_a_weight_has_a_scale_of_its_own_and_its_largest_weight_reaches_the_limit(limit, weight, axis):
    q = per_channel(weight, axis, limit, np.zeros(weight.shape[axis]))
    integers = quantize(weight, q, axis)
    assert q.scale.shape == (weight.shape[axis],)
    assert np.abs(integers.astype(int)).max() <= limit
    step = np.moveaxis(np.broadcast_to(q.scale, np.moveaxis(weight, axis, -1).shape), -1, axis)
    assert np.all(np.abs(dequantize(integers, q, axis) - weight) <= step * 0.50001)


def test_a_dead_channel_has_a_positive_scale_no_smaller_than_the_floor():
    q = per_channel(np.zeros((2, 3), np.float32), 0, 127, np.array([0, 0.25]))
    assert q.scale[0] > 0
    assert q.scale[1] == 0.25


def test_int32_holds_a_bias_to_half_a_step():
    q = QParams(np.array([1e-6, 1e-4], np.float32), np.zeros(2, np.int32))
    bias = np.array([1.5, -3.25])
    assert np.all(np.abs(dequantize(quantize(bias, q), q) - bias) <= np.maximum(q.scale / 2, 1e-6))
