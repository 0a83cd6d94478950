"""Samples as they are stored: columns of pixels, of text or of numbers, and what the right answers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IMAGE = "image"


@dataclass(frozen=True)
class Samples:
    """Rows of a data set, not yet preprocessed."""

    columns: dict[str, NDArray[Any]]
    """[N, ...] each: `image` uint8 [N, H, W, C], texts as str objects [N], numbers as a model's inputs by name."""
    labels: NDArray[Any] | None
    """[N]: classes int64, values float32, or per question a tuple of its right answers; None where there are none."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def part(self, rows: slice | Sequence[int] | NDArray[np.int64]) -> Samples:
        """Some of the rows."""
        labels = None if self.labels is None else self.labels[rows]
        return Samples({name: column[rows] for name, column in self.columns.items()}, labels)
