"""Count values in equal bins that widen as the range grows: bounded memory, one pass, nothing known beforehand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.quantize.observers.observer import State

BINS = 2048
"""At most; a range wider than them needs wider bins. As many as TensorRT's calibrator takes."""
NARROWEST = -1074
"""The exponent of the smallest number there is."""
CHUNK = 1 << 16
"""Values that are taken to double precision at once."""


class Histogram:
    """Counts of all values seen, 0 always among the bins.

    Bin j is [j w, (j + 1) w) with w = 2^k and the smallest k at which all values and 0 lie in BINS bins. When the range
    grows, so does k, and neighbours are added up 2:1: floor(floor(x / w) / 2) = floor(x / 2w) is exact, so the counts
    depend on the values alone, not on their order or their batches.

    Error: a value is known to within w, and w < 2 (high - low) / (BINS - 1), where low <= 0 <= high. One outlier a
    thousand times as large as all else leaves all else two bins.
    """

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        """Of all values, exactly."""
        self.zeros = 0
        """Values that are 0: quantized they stay so, whatever the range."""
        self.counts: NDArray[np.int64] = np.zeros(1, np.int64)
        self._first = 0
        self._exponent = NARROWEST

    @property
    def edges(self) -> NDArray[np.float64]:
        """[bins + 1]: where each bin begins, and where the last one ends."""
        return np.ldexp(np.arange(self._first, self._first + len(self.counts) + 1, dtype=np.float64), self._exponent)

    @property
    def before_zero(self) -> int:
        """How many bins lie below 0, which is an edge."""
        return -self._first

    def observe(self, x: NDArray[Any]) -> None:
        """Count one batch, [N, ...], finite."""
        self._grow(float(x.min()), float(x.max()))
        flat = x.reshape(-1)
        for start in range(0, flat.size, CHUNK):
            part = flat[start : start + CHUNK].astype(np.float64)
            bins = np.floor(np.ldexp(part, -self._exponent)).astype(np.int64) - self._first
            self.counts += np.bincount(bins, minlength=len(self.counts))
            self.zeros += part.size - int(np.count_nonzero(part))

    def state(self) -> State:
        """Counts, and what bins they are of."""
        bins = np.array([self._first, self._exponent, self.zeros], np.int64)
        return {"counts": self.counts, "bins": bins, "range": np.array([self.low, self.high])}

    def restore(self, state: State) -> None:
        """Go on from what `state` gave."""
        self.counts = state["counts"]
        self._first, self._exponent, self.zeros = map(int, state["bins"])
        self.low, self.high = map(float, state["range"])

    def _grow(self, low: float, high: float) -> None:
        """Make room for values between these two."""
        self.low, self.high = min(self.low, low), max(self.high, high)
        exponent = self._exponent
        while _bin(max(self.high, 0), exponent) - _bin(min(self.low, 0), exponent) >= BINS:
            exponent += 1
        first, last = _bin(min(self.low, 0), exponent), _bin(max(self.high, 0), exponent)
        merged = np.arange(self._first, self._first + len(self.counts)) >> min(exponent - self._exponent, 63)
        counts = np.zeros(last - first + 1, np.int64)
        np.add.at(counts, merged - first, self.counts)
        self.counts, self._first, self._exponent = counts, first, exponent


def _bin(x: float, exponent: int) -> int:
    """The number of the bin that holds x."""
    mantissa, power = math.frexp(x)
    if x and power - exponent > 62:  # beyond all bounds: any such number will do
        return int(math.copysign(1 << 62, x))
    return math.floor(math.ldexp(mantissa, power - exponent))
