"""Samples as they are stored: columns of pixels, of text or of numbers, and what the right answers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Answer(NamedTuple):
    """A right answer to a question: a piece of its context."""

    text: str
    start: int
    """The character of the context that it begins at."""


@dataclass(frozen=True)
class Samples:
    """Rows of a data set, not yet preprocessed."""

    columns: dict[str, NDArray[Any]]
    """[N, ...] each: `image` uint8 [N, H, W, C], texts as str objects [N], numbers as a model's inputs by name."""
    labels: NDArray[Any] | None
    """[N]: classes int64, values float32, or per question a tuple of Answers; None where there are none."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def part(self, rows: slice | Sequence[int] | NDArray[np.int64]) -> Samples:
        """Some of the rows."""
        labels = None if self.labels is None else self.labels[rows]
        return Samples({name: column[rows] for name, column in self.columns.items()}, labels)


def objects(values: Sequence[Any]) -> NDArray[Any]:
    """Texts or tuples as an array [N] of objects; tuples of one length would become a matrix otherwise."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
