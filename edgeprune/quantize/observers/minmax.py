"""The smallest and the largest value."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.quantize.observers.observer import State
from edgeprune.quantize.spec import Range


class MinMax:
    """Nothing is ever clipped, so a single outlier decides.

    Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018.
    """

    def __init__(self) -> None:
        self._low, self._high = np.inf, -np.inf

    def observe(self, x: NDArray[Any]) -> None:
        """One batch, [N, ...], finite."""
        self._low = min(self._low, float(x.min()))
        self._high = max(self._high, float(x.max()))

    def range(self) -> Range:
        """For all that was seen."""
        return Range(self._low, self._high)

    def state(self) -> State:
        """Both ends."""
        return {"range": np.array([self._low, self._high])}

    def restore(self, state: State) -> None:
        """Go on from what `state` gave."""
        self._low, self._high = map(float, state["range"])
