"""What is quantized and how: decided once, spelled for each runtime by `qdq`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Range:
    """The real values a tensor takes, as its observer sees them."""

    low: float
    high: float


@dataclass(frozen=True)
class QParams:
    """real = scale * (quantized - zero_point); arrays of shape [] or [channels]."""

    scale: NDArray[np.float32]
    zero_point: NDArray[Any]
    """Its dtype is the quantized dtype: QuantizeLinear emits what its zero point is."""


@dataclass(frozen=True)
class LayerQuant:
    """One layer's precision, and why."""

    precision: str
    """`int8` (8-bit weights per output channel, 8-bit activations per tensor), `int4` (weights stored in 4 bits, the
    rest as in `int8`), or `fp32`."""
    reason: str = ""
    wide: tuple[int, ...] = ()
    """Output channels of an `int4` layer whose weights keep 8 bits."""

    def weight_bits(self, channels: int) -> float:
        """Bits of a weight on disk, on average over `channels` output channels."""
        wide = len(self.wide) / channels
        return {"fp32": 32.0, "int8": 8.0, "int4": 4.0 + 4.0 * wide}[self.precision]


LIMITS = {"int8": 127, "int4": 7}
"""The largest magnitude of a quantized weight; symmetric, so that the most negative integer is not used."""


@dataclass(frozen=True)
class Rounded:
    """A weight that was put on its grid on purpose, by other means than the nearest number."""

    weight: NDArray[np.float32]
    """In the layout of its initializer; multiples of the scale of its channel, or of its block in that."""
    scale: NDArray[np.float32]
    """[C], along the layer's axis of output channels, or [C, blocks]; what is emitted has this scale."""


@dataclass(frozen=True)
class QuantPlan:
    """Precision per layer, keyed by the name of its weight initializer: one entry per weight, none unused."""

    layers: dict[str, LayerQuant]
