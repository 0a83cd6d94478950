import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeprune.quantize.observers.histogram import BINS, Histogram

FLOATS = arrays.arrays(
    np.float32, st.integers(1, 60), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
)


def counted(*batches: np.ndarray) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.observe(batch)
    return histogram


@settings(deadline=None)
@given(FLOATS, st.lists(st.integers(0, 60), max_size=5), st.randoms(use_true_random=False))
def test_neither_batches_nor_order_change_it(x, cuts, random):
    order = list(range(len(x)))
    random.shuffle(order)
    parts = [part for part in np.split(x[order], sorted(cuts)) if part.size]
    whole, split = counted(x).state(), counted(*parts).state()
    assert whole.keys() == split.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(array, split[name])


@settings(deadline=None)
@given(FLOATS)
def test_every_value_is_in_its_bin_and_bins_are_as_narrow_as_is_said(x):
    histogram = counted(x)
    edges, counts = histogram.edges, histogram.counts
    assert counts.sum() == x.size
    assert histogram.zeros == (x == 0).sum()
    for edge, below in zip(edges, np.cumsum([0, *counts]), strict=True):
        assert (x.astype(np.float64) < edge).sum() == below
    assert edges[histogram.before_zero] == 0
    assert len(counts) <= BINS
    span = max(float(x.max()), 0) - min(float(x.min()), 0)
    assert span == 0 or edges[1] - edges[0] < 2 * span / (BINS - 1)


def test_the_range_grows_by_any_factor():
    histogram = counted(np.array([1e-40, -1e-40], np.float32), np.array([3e38, 1.0], np.float32))
    assert histogram.counts.sum() == 4
    assert (histogram.low, histogram.high) == (pytest.approx(-1e-40, rel=1e-4), pytest.approx(3e38))
