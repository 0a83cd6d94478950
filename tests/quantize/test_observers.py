import numpy as np
import pytest

from edgeprune.quantize.observers import OBSERVERS
from edgeprune.registry import resolve


@pytest.mark.parametrize("name", OBSERVERS)
def test_every_observer_sees_the_same_in_one_batch_and_in_many(name):
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    whole, parts = resolve(OBSERVERS, name, "observer")(), resolve(OBSERVERS, name, "observer")()
    whole.observe(x)
    for part in np.array_split(x, 7):
        parts.observe(part)
    assert whole.range() == parts.range()


def test_min_max_keeps_the_extremes():
    observer = resolve(OBSERVERS, "minmax", "observer")()
    observer.observe(np.array([[1.0, -2.0]], np.float32))
    observer.observe(np.array([[5.0, 0.0]], np.float32))
    assert (observer.range().low, observer.range().high) == (-2.0, 5.0)
