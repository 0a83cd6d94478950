import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.quantize.observers.histogram import BINS
from edgeprune.quantize.observers.percentile import percentile


def ends(x, percent):
    observer = percentile(percent)
    observer.observe(x)
    return observer.range().low, observer.range().high


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.sampled_from([90, 99, 99.9, 99.99]))
def test_it_is_that_of_numpy_to_a_bin(seed, percent):
    x = np.random.default_rng(seed).standard_t(3, 4999)  # so that no percentile falls between two values
    low, high = ends(x, percent)
    width = 2 * (x.max() - x.min()) / (BINS - 1)
    exact = np.percentile(x, percent, method="inverted_cdf")
    assert exact <= high <= exact + width
    exact = -np.percentile(-x, percent, method="inverted_cdf")
    assert exact - width <= low <= exact


@pytest.mark.parametrize("percent", [99.0, 99.99])
def test_no_more_are_clipped_than_is_said(percent):
    x = np.random.default_rng(0).normal(size=30_000)
    low, high = ends(x, percent)
    assert (x > high).mean() <= 1 - percent / 100
    assert (x < low).mean() <= 1 - percent / 100


def test_one_outlier_in_many_values_is_clipped_and_one_in_few_is_not():
    x = np.random.default_rng(0).uniform(0, 1, 20_000)
    assert ends(np.append(x, 50), 99.99)[1] < 1.1
    assert ends(np.append(x[:9000], 50), 99.99)[1] == 50
