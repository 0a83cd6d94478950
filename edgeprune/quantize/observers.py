"""What range of values a tensor takes, seen batch by batch."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeprune.quantize.spec import Range


class Observer(Protocol):
    """Sees every batch of one value and says in the end which range is worth representing."""

    def observe(self, x: NDArray[Any]) -> None:
        """One batch, [N, ...], finite."""
        ...

    def range(self) -> Range:
        """For all that was seen."""
        ...


class MinMax:
    """The smallest and the largest value: nothing is ever clipped."""

    def __init__(self) -> None:
        self._low, self._high = np.inf, -np.inf

    def observe(self, x: NDArray[Any]) -> None:
        """One batch, [N, ...], finite."""
        self._low = min(self._low, float(x.min()))
        self._high = max(self._high, float(x.max()))

    def range(self) -> Range:
        """For all that was seen."""
        return Range(self._low, self._high)


OBSERVERS = {"minmax": "edgeprune.quantize.observers:MinMax"}
