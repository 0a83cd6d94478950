"""An observer that counts all values, and in the end lets a function say where to clip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from edgeprune.quantize.observers.histogram import Histogram
from edgeprune.quantize.observers.observer import State
from edgeprune.quantize.spec import Range


class Clipping:
    """The range that `choose` takes from the histogram, no wider than what was seen."""

    def __init__(self, choose: Callable[[Histogram], Range]) -> None:
        self._choose = choose
        self._seen = Histogram()

    def observe(self, x: NDArray[Any]) -> None:
        """One batch, [N, ...], finite."""
        self._seen.observe(x)

    def range(self) -> Range:
        """For all that was seen."""
        chosen, seen = self._choose(self._seen), self._seen
        return Range(*(min(max(end, seen.low), seen.high) for end in (chosen.low, chosen.high)))

    def state(self) -> State:
        """The histogram."""
        return self._seen.state()

    def restore(self, state: State) -> None:
        """Go on from what `state` gave."""
        self._seen.restore(state)
