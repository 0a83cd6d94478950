import numpy as np
import pytest

from edgeprune.quantize.affine import asymmetric, dequantize, quantize
from edgeprune.quantize.observers.mse import mse
from edgeprune.quantize.spec import Range


def chosen(x) -> Range:
    observer = mse()
    observer.observe(x)
    return observer.range()


def error(x, span: Range) -> float:
    q = asymmetric(span)
    return float(np.mean((x - dequantize(quantize(x, q), q)) ** 2))


@pytest.mark.parametrize(("draw", "best"), [("normal", 3.92), ("laplace", 9.89)])
def test_it_clips_where_theory_does(draw, best):
    """Banner et al., 2019: the optimal clipping at 8 bits of a normal and of a Laplace distribution of scale 1."""
    x = getattr(np.random.default_rng(0), draw)(size=1_000_000)
    assert chosen(x).low == pytest.approx(-best, rel=0.05)
    assert chosen(x).high == pytest.approx(best, rel=0.05)


def test_one_outlier_is_clipped_as_far_as_the_rounding_of_the_others_allows():
    """d/dh [n h^2 / (12 * 255^2) + (t - h)^2] = 0 at h = t / (1 + n / (12 * 255^2))."""
    n, t = 100_000, 1000.0
    x = np.append(np.random.default_rng(0).uniform(0, 1, n), t)
    assert chosen(x).high == pytest.approx(t / (1 + n / (12 * 255**2)), rel=0.002)


@pytest.mark.parametrize("power", [1, 3])
def test_no_other_range_quantizes_clearly_better(power):
    x = np.maximum(np.random.default_rng(0).normal(size=200_000), 0) ** power
    found = chosen(x)
    least = min(error(x, Range(0, high)) for high in np.linspace(0.3, 1, 100) * x.max())
    assert error(x, found) <= 1.02 * least
    assert error(x, found) < error(x, Range(0, float(x.max())))
