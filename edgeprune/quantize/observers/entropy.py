"""The range that loses least information."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeprune.quantize.observers.clipping import Clipping
from edgeprune.quantize.observers.histogram import Histogram
from edgeprune.quantize.spec import Range

LEVELS = 128
"""Of magnitudes in 8 signed bits."""


def entropy() -> Clipping:
    """An observer that makes clipped and quantized magnitudes look most like the real ones.

    For every threshold T: P is the histogram of |x| up to T, with all that lies beyond in its last bin; Q is the same
    without what lies beyond, merged into 128 levels and spread again over the bins that hold anything. The T with the
    least KL(P, Q) = sum of P log(P / Q) gives [-T, T]. Migacz, "8-bit Inference with TensorRT", GTC 2017. Exact zeros
    do not count, as in NVIDIA's own code: they are half of all values behind a ReLU and stay what they are.
    """
    return Clipping(_least_divergence)


def _least_divergence(seen: Histogram) -> Range:
    counts, edges = _magnitudes(seen)
    divergence = [_divergence(counts, width) for width in range(LEVELS, len(counts) + 1)]
    best = LEVELS + int(np.argmin(divergence)) if divergence else len(counts)
    return Range(-float(edges[best]), float(edges[best]))


def _magnitudes(seen: Histogram) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The histogram of |x|, zeros left out, and its edges."""
    zero = seen.before_zero
    above, below = seen.counts[zero:].astype(np.float64), seen.counts[:zero][::-1]
    above[0] -= seen.zeros
    counts = np.zeros(max(len(above), len(below)))
    counts[: len(above)] += above
    counts[: len(below)] += below
    width = seen.edges[zero + 1]
    return counts, np.arange(len(counts) + 1) * width


def _divergence(counts: NDArray[np.float64], width: int) -> float:
    """KL(P, Q) where the first `width` bins are kept; infinite where Q holds nothing in place of what P does."""
    kept = counts[:width]
    p = kept.copy()
    p[-1] += counts[width:].sum()
    filled = kept > 0
    starts = np.arange(LEVELS) * width // LEVELS
    levels = np.repeat(np.arange(LEVELS), np.diff(starts, append=width))
    mean = np.add.reduceat(kept, starts) / np.maximum(np.add.reduceat(filled, starts, dtype=np.float64), 1)
    q = np.where(filled, mean[levels], 0)
    seen = p > 0
    if not filled.any() or (q[seen] == 0).any():
        return np.inf
    p, q = p[seen] / p.sum(), q[seen] / q.sum()
    return float((p * np.log(p / q)).sum())
