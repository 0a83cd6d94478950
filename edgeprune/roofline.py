"""How far a measured time is from the limits of its machine: the roofline model, with caches.

S. Williams, A. Waterman, D. Patterson, Roofline, Communications of the ACM 52(4), 2009; A. Ilic, F. Pratas, L. Sousa,
Cache-aware Roofline Model, IEEE Computer Architecture Letters 13(1), 2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ARITHMETIC, MEMORY = "arithmetic", "memory"
KERNELS = {"int4": "int8"}
"""Whose arithmetic a precision is computed in."""


@dataclass(frozen=True)
class Peaks:
    """The most that was reached on a machine with some number of threads."""

    ops_per_s: dict[str, float]
    """By precision: two for each multiply-accumulate, in a product of two large matrices."""
    runtimes: dict[str, str]
    """By precision: which runtime reached it."""
    bytes_per_s: tuple[tuple[int, float], ...]
    """What is read or copied in a second, by the size of what is worked through again and again: the caches show."""
    measured_at: str
    """UTC, ISO 8601."""

    def operations(self, precision: str) -> float:
        """A second; of a precision that no runtime here computes in, those of FP32."""
        return self.ops_per_s.get(KERNELS.get(precision, precision), self.ops_per_s["fp32"])

    def bandwidth(self, working_set: int) -> float:
        """Bytes a second in a working set of so many bytes, interpolated between the two nearest sizes."""
        sizes, rates = zip(*self.bytes_per_s, strict=True)
        return float(np.interp(np.log(max(working_set, 1)), np.log(sizes), rates))


@dataclass(frozen=True)
class Part:
    """What one operator has to do, at the least."""

    operations: int
    """Two for each multiply-accumulate."""
    weight_bytes: int
    other_bytes: int
    """Of its input and output."""
    precision: str


@dataclass(frozen=True)
class Limit:
    """The least time that a machine needs for some work, and what it is that takes it."""

    ms: float
    operations: int
    bytes: int
    """Read and written, each number once for each operator."""
    bound: str
    """`arithmetic` or `memory`: what takes more of the time."""

    def share(self, ms: float) -> float:
        """Of the limit, that a measured time reaches."""
        return self.ms / ms

    def gops(self, ms: float) -> float:
        """Achieved, in 1e9 operations a second."""
        return self.operations / (ms * 1e6)

    def gbytes(self, ms: float) -> float:
        """Achieved, in 1e9 bytes a second."""
        return self.bytes / (ms * 1e6)

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return self.operations / self.bytes if self.bytes else 0.0


def limit(parts: Sequence[Part], peaks: Peaks, network_bytes: int) -> Limit:
    """The least time of operators that run one after another.

    t = sum_i max(operations_i / peak(precision_i), weights_i / B(W) + others_i / B(others_i))

    B(s) is the bandwidth in a working set of s bytes: an inference comes back to a weight when it has read all W =
    `network_bytes` of them, and to what an operator gives in the next one.
    """
    arithmetic = np.array([part.operations / peaks.operations(part.precision) for part in parts])
    memory = np.array(
        [
            part.weight_bytes / peaks.bandwidth(network_bytes) + part.other_bytes / peaks.bandwidth(part.other_bytes)
            for part in parts
        ]
    )
    longer = arithmetic >= memory
    seconds = np.maximum(arithmetic, memory)
    return Limit(
        1e3 * float(seconds.sum()),
        sum(part.operations for part in parts),
        sum(part.weight_bytes + part.other_bytes for part in parts),
        ARITHMETIC if seconds[longer].sum() >= seconds[~longer].sum() else MEMORY,
    )
