"""Task metrics and their intervals, in NumPy.

Accuracies and drops are fractions here; reports show them as percent and points.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
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


def mean_interval(marks: ArrayLike, confidence: float = 0.95) -> Interval:
    """Interval of the mean of independent marks [N], by the central limit theorem."""
    values = np.asarray(marks, np.float64)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    half = z * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return Interval(float(values.mean()), float(values.mean()) - half, float(values.mean()) + half, confidence)


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float], samples: int, confidence: float = 0.95, resamples: int = 400
) -> Interval:
    """Percentile interval of a statistic of row numbers, by drawing rows with replacement (Efron, 1979).

    The draws are always the same. For what is no mean of marks: F1, correlations, a user's own metric.
    """
    random = np.random.default_rng(0)
    found = sorted(statistic(random.integers(0, samples, samples)) for _ in range(resamples))
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    estimate = statistic(np.arange(samples))
    return Interval(estimate, min(estimate, float(low)), max(estimate, float(high)), confidence)


def f1(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Harmonic mean of precision and recall of class 1; 0 where neither holds any."""
    found, right = np.asarray(predicted) == 1, np.asarray(truth) == 1
    both = int(np.sum(found & right))
    return 2 * both / (int(found.sum()) + int(right.sum())) if both else 0.0


def matthews(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Matthews' correlation (1975), for any number of classes as Gorodkin (2004) has it; 0 where one is constant."""
    found, right = np.asarray(predicted, np.int64), np.asarray(truth, np.int64)
    size = int(max(found.max(), right.max())) + 1
    table = np.bincount(right * size + found, minlength=size * size).reshape(size, size).astype(np.float64)
    of_truth, of_found, n = table.sum(1), table.sum(0), table.sum()
    spread = (n * n - of_found @ of_found) * (n * n - of_truth @ of_truth)
    return float((np.trace(table) * n - of_truth @ of_found) / math.sqrt(spread)) if spread > 0 else 0.0


def pearson(a: ArrayLike, b: ArrayLike) -> float:
    """Linear correlation; 0 where either is constant."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    x, y = x - x.mean(), y - y.mean()
    spread = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / spread if spread else 0.0


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Correlation of the ranks; equal values share the mean of theirs."""
    return pearson(_ranks(a), _ranks(b))


def _ranks(a: ArrayLike) -> NDArray[np.float64]:
    _, position, counts = np.unique(np.asarray(a), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[position]
    return ranks


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def spans_equal(answers: Iterable[str], truths: Iterable[Sequence[str]]) -> NDArray[np.bool_]:
    """Per question whether the answer equals one of the right ones, as SQuAD 1.1 compares them: without case,
    punctuation, articles and spare blanks (Rajpurkar et al., 2016).
    """
    pairs = zip(answers, truths, strict=True)
    return np.array([any(_words(one) == _words(right) for right in rights) for one, rights in pairs], bool)


def span_f1(answers: Iterable[str], truths: Iterable[Sequence[str]]) -> NDArray[np.float64]:
    """Per question the F1 of the answer's words, against the right answer that fits best (Rajpurkar et al., 2016)."""
    pairs = zip(answers, truths, strict=True)
    return np.array(
        [max(_overlap(_words(one), _words(right)) for right in rights) for one, rights in pairs], np.float64
    )


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _overlap(found: list[str], right: list[str]) -> float:
    both = sum((Counter(found) & Counter(right)).values())
    return 2 * both / (len(found) + len(right)) if both else 0.0
