import numpy as np
import pytest

from edgeprune.quantize.observers.moving_average import MovingAverage


def test_it_moves_by_a_tenth_of_the_way_at_each_batch():
    observer = MovingAverage()
    for low, high in [(-1, 1), (-1, 11), (-11, 2)]:
        observer.observe(np.array([low, 0, high], np.float32))
    assert observer.range().low == pytest.approx(-2)  # -1, -1, -1 - 0.1 * 10
    assert observer.range().high == pytest.approx(2)  # 1, 1 + 0.1 * 10, 2


def test_an_outlier_counts_less_the_longer_ago_it_was():
    observer = MovingAverage(momentum=0.5)
    for high in [1, 1000, *[1] * 10]:
        observer.observe(np.array([0, high], np.float32))
    assert observer.range().high == pytest.approx(1 + 999 * 0.5**11)
