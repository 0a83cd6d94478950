import numpy as np
import pytest

from edgeprune.quantize.observers.entropy import LEVELS, entropy
from edgeprune.quantize.observers.histogram import Histogram


def chosen(x) -> tuple[float, float]:
    observer = entropy()
    observer.observe(x)
    return observer.range().low, observer.range().high


def slowly(x) -> float:
    """The threshold, by the pseudo code of Migacz's slides 36 to 38."""
    histogram = Histogram()
    histogram.observe(np.abs(x))
    bins = histogram.counts.tolist()
    bins[0] -= histogram.zeros
    best, threshold = np.inf, len(bins)
    for i in range(LEVELS, len(bins) + 1):
        p = [float(count) for count in bins[:i]]
        p[-1] += sum(bins[i:])
        q = [0.0] * i
        for level in range(LEVELS):
            group = range(level * i // LEVELS, (level + 1) * i // LEVELS)
            filled = [j for j in group if bins[j]]
            for j in filled:
                q[j] = sum(bins[j] for j in group) / len(filled)
        if any(a and not b for a, b in zip(p, q, strict=True)) or not sum(q):
            continue
        pairs = [(a / sum(p), b / sum(q)) for a, b in zip(p, q, strict=True) if a]
        divergence = sum(a * np.log(a / b) for a, b in pairs)
        if divergence < best:
            best, threshold = divergence, i
    return float(histogram.edges[threshold])


@pytest.mark.parametrize("seed", range(2))
def test_it_is_what_the_slides_say(seed):
    x = np.random.default_rng(seed).laplace(size=3000)
    x = np.maximum(x, 0) if seed == 1 else x
    assert chosen(x)[1] == pytest.approx(min(slowly(x), x.max()))


def test_both_ends_are_clipped_at_the_same_magnitude():
    x = np.random.default_rng(0).laplace(size=100_000)
    low, high = chosen(x)
    assert -low == high < min(x.max(), -x.min())


def test_a_tail_is_clipped():
    x = np.random.default_rng(0).normal(size=100_000)
    x[:20] = np.linspace(20, 60, 20)
    assert 3 < chosen(x)[1] < 30
