"""The range at which quantization to 8 bits changes values least, in the mean square."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeprune.quantize.observers.clipping import Clipping
from edgeprune.quantize.observers.histogram import Histogram
from edgeprune.quantize.spec import Range

STEPS = 255
"""From the lowest to the highest of the integers."""


def mse() -> Clipping:
    """An observer that weighs what is clipped against what is rounded.

    E(low, high) = (high - low)^2 / (12 STEPS^2) + mean of (x - clip(x, low, high))^2, over all pairs of a bin's edge
    below and one above 0. Banner et al., "Post Training 4-bit Quantization of Convolutional Networks for
    Rapid-Deployment", 2019. A value counts as the middle of its bin; 0 is never rounded, so zeros do not count.
    """
    return Clipping(_least_error)


def _least_error(seen: Histogram) -> Range:
    counts, edges, zero = _without_zeros(seen), seen.edges, seen.before_zero
    middles = (edges[1:] + edges[:-1]) / 2
    highs, lows = edges[zero:], edges[: zero + 1][::-1]
    clipped_above = _beyond(highs, middles[zero:], counts[zero:])
    clipped_below = _beyond(-lows, -middles[:zero][::-1], counts[:zero][::-1])
    rounded = counts.sum() * (highs[None, :] - lows[:, None]) ** 2 / (12 * STEPS**2)
    error = rounded + clipped_below[:, None] + clipped_above[None, :]
    low, high = np.unravel_index(error.argmin(), error.shape)
    return Range(float(lows[low]), float(highs[high]))


def _without_zeros(seen: Histogram) -> NDArray[np.float64]:
    counts = seen.counts.astype(np.float64)
    counts[seen.before_zero] -= seen.zeros
    return counts


def _beyond(
    edges: NDArray[np.float64], middles: NDArray[np.float64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """For each of the edges [bins + 1], upwards from 0: the sum of (x - edge)^2 over all x above it."""
    power = [np.append(np.cumsum((counts * middles**p)[::-1])[::-1], 0) for p in range(3)]
    result: NDArray[np.float64] = power[2] - 2 * edges * power[1] + edges**2 * power[0]
    return result
