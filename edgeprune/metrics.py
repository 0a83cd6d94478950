"""Task metrics and their intervals, in NumPy.

Accuracies and drops are fractions here; reports show them as percent and points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds it lies between at `confidence`."""

    estimate: float
    low: float
    high: float
    confidence: float = 0.95


def top1(scores: ArrayLike) -> NDArray[np.int64]:
    """The class of each row of scores [N, C]."""
    classes: NDArray[np.int64] = np.argmax(np.asarray(scores), axis=-1).astype(np.int64)
    return classes


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Score interval of a proportion (Wilson, 1927): stays inside [0, 1] and holds its level for small counts."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    low, high = min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half))  # rounding may leave p outside
    return Interval(p, low, high, confidence)


def paired_drop(
    reference_right: NDArray[np.bool_], candidate_right: NDArray[np.bool_], confidence: float = 0.95
) -> Interval:
    """Accuracy lost from reference to candidate on the same samples, with the adjusted Wald interval.

    With b = right only in the reference and c = right only in the candidate, the drop is (b - c) / n; McNemar's test
    looks at the same two counts. Bonett and Price (2012) add one to each and two to n, which keeps the level for the
    small counts that quantization causes.
    """
    n = len(reference_right)
    b = int(np.sum(reference_right & ~candidate_right))
    c = int(np.sum(~reference_right & candidate_right))
    p12, p21 = (b + 1) / (n + 2), (c + 1) / (n + 2)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    half = z * math.sqrt((p12 + p21 - (p12 - p21) ** 2) / (n + 2))
    return Interval((b - c) / n, p12 - p21 - half, p12 - p21 + half, confidence)


def agreement(reference: ArrayLike, candidate: ArrayLike) -> float:
    """Share of samples on which two models give the same top class."""
    return float(np.mean(top1(reference) == top1(candidate)))


def snr_db(reference: ArrayLike, candidate: ArrayLike) -> float:
    """Signal-to-noise ratio of `candidate` against `reference` in decibels; infinite where they are equal."""
    ref, cand = np.asarray(reference, np.float64), np.asarray(candidate, np.float64)
    noise = float(np.sum((ref - cand) ** 2))
    return math.inf if noise == 0 else 10 * math.log10(float(np.sum(ref**2)) / noise)


def order_statistic_interval(samples: ArrayLike, q: float = 0.5, confidence: float = 0.95) -> Interval | None:
    """Distribution-free interval of the q-quantile between two order statistics (binomial); None if n is too small.

    The number of samples below the true quantile is Binomial(n, q), whatever the distribution.
    """
    ordered = np.sort(np.asarray(samples, np.float64))
    n = len(ordered)
    k = np.arange(n + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    log_choose = log_factorial[n] - log_factorial - log_factorial[::-1]
    below = np.cumsum(np.exp(log_choose + k * math.log(q) + (n - k) * math.log1p(-q)))
    tail = (1 - confidence) / 2
    lower = int(np.searchsorted(below, tail, side="right"))  # ranks 0..lower-1 hold at most the tail
    upper = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    if lower < 1 or upper > n:
        return None
    return Interval(float(np.quantile(ordered, q)), float(ordered[lower - 1]), float(ordered[upper - 1]), confidence)
