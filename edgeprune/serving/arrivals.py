"""How fast requests come, and how evenly, told from those that came."""

from __future__ import annotations

from collections import deque

WINDOW = 128
"""Requests that a rate is told from: a standard deviation of 9 % for a Poisson process."""
WEIGHT = 1 / 256
"""Of a newer gap in the mean and the variance that tell how evenly requests come: it changes slower than the rate."""
MOST = 16.0


class Arrivals:
    """Counts requests at each turn: those served, and those that have come since and wait."""

    def __init__(self, window: int = WINDOW) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=window)
        self._served = 0
        self._last_s: float | None = None
        self._gap_s = self._square_s2 = 0.0

    def see(self, arrived_s: float, now_s: float, waiting: int) -> None:
        """A request that arrived then gets its turn now, before `waiting` others."""
        self._served += 1
        self._seen.append((now_s, self._served + waiting))
        if self._last_s is not None:
            gap_s = arrived_s - self._last_s
            weight = max(WEIGHT, 1 / self._served)
            self._gap_s += weight * (gap_s - self._gap_s)
            self._square_s2 += weight * (gap_s * gap_s - self._square_s2)
        self._last_s = arrived_s

    @property
    def per_s(self) -> float:
        """Requests in a second; 0 where nothing is known yet."""
        if len(self._seen) < 2:
            return 0.0
        (begin_s, before), (end_s, after) = self._seen[0], self._seen[-1]
        return (after - before) / (end_s - begin_s) if end_s > begin_s else 0.0

    @property
    def dispersion(self) -> float:
        """Variance of the gaps over their squared mean: that of the count over its mean, if gaps are independent."""
        if self._gap_s <= 0:
            return 1.0
        return min(MOST, max(0.0, self._square_s2 / (self._gap_s * self._gap_s) - 1))
