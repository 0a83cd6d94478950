"""How many times faster one variant is than another, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeprune.metrics import Interval, order_statistic_interval


def compare(
    reference: Sequence[Sequence[Sequence[float]]],
    candidate: Sequence[Sequence[Sequence[float]]],
    quantile: float = 0.5,
    confidence: float = 0.95,
) -> Interval | None:
    """How many times faster the candidate is, from milliseconds by [restart][round] of one interleaved run.

    A restart's ratio is the median over its rounds of the ratio of the two quantiles in that round. The estimate is the
    median of the restarts' ratios, with its order-statistic interval: where a process lies in memory stays with it
    through all its rounds, so the restarts are what is independent. None for too few: six make 95 %, eight 99 %.
    """
    ratios = [_ratio(a, b, quantile) for a, b in zip(reference, candidate, strict=True)]
    return order_statistic_interval(ratios, confidence=confidence)


def _ratio(reference: Sequence[Sequence[float]], candidate: Sequence[Sequence[float]], quantile: float) -> float:
    rounds = zip(reference, candidate, strict=True)
    return float(np.median([np.quantile(a, quantile) / np.quantile(b, quantile) for a, b in rounds]))
