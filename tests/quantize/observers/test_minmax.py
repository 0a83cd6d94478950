import numpy as np

from edgeprune.quantize.observers.minmax import MinMax


def test_it_keeps_the_extremes():
    observer = MinMax()
    observer.observe(np.array([[1.0, -2.0]], np.float32))
    observer.observe(np.array([[5.0, 0.0]], np.float32))
    assert (observer.range().low, observer.range().high) == (-2.0, 5.0)
