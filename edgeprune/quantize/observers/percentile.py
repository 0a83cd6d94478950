"""The range that all but a few values lie in."""

from __future__ import annotations

from functools import partial

from edgeprune.quantize.observers.clipping import Clipping
from edgeprune.quantize.observers.histogram import Histogram
from edgeprune.quantize.spec import Range

PERCENT = 99.99


def percentile(percent: float = PERCENT) -> Clipping:
    """An observer that clips, at either end, the values beyond the percentile: one in ten thousand.

    McKinstry et al., "Discovering Low-Precision Networks Close to Full-Precision Networks for Efficient Embedded
    Inference", 2018. The end of a bin is taken: no more than those are clipped, and up to a bin's width fewer.
    """
    return Clipping(partial(_within, percent=percent))


def _within(seen: Histogram, percent: float) -> Range:
    may_clip = seen.counts.sum() * (1 - percent / 100)
    from_below, from_above = seen.counts.cumsum(), seen.counts[::-1].cumsum()
    low = (from_below <= may_clip).sum()
    high = len(seen.counts) - (from_above <= may_clip).sum()
    return Range(float(seen.edges[low]), float(seen.edges[high]))
