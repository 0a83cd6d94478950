"""A moving average of each batch's smallest and largest value."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.quantize.observers.observer import State
from edgeprune.quantize.spec import Range

MOMENTUM = 0.9
"""What stays of the average at a batch: ten batches back counts a third. Training, which sees thousands of batches,
takes 0.99 and more; the usual 16 would then hardly move the first one."""


class MovingAverage:
    """range <- m range + (1 - m) [min(x), max(x)], from the first batch on.

    An outlier counts less the rarer it is; how samples are batched and ordered matters. Jacob et al., "Quantization and
    Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, section 3.1.
    """

    def __init__(self, momentum: float = MOMENTUM) -> None:
        self._momentum = momentum
        self._range: NDArray[np.float64] | None = None

    def observe(self, x: NDArray[Any]) -> None:
        """One batch, [N, ...], finite."""
        found = np.array([x.min(), x.max()], np.float64)
        self._range = found if self._range is None else self._range + (1 - self._momentum) * (found - self._range)

    def range(self) -> Range:
        """For all that was seen."""
        if self._range is None:
            return Range(np.inf, -np.inf)
        return Range(*map(float, self._range))

    def state(self) -> State:
        """Both ends; nothing before the first batch."""
        return {"range": np.empty(0) if self._range is None else self._range}

    def restore(self, state: State) -> None:
        """Go on from what `state` gave."""
        self._range = state["range"] if state["range"].size else None
