"""Stored cells, column by column, and what they become: pixels, text, numbers, classes, values, answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.data.encoded import Resizing, decode
from edgeprune.data.samples import Answer, Samples, objects
from edgeprune.errors import DataError
from edgeprune.judge import QUESTIONS, REGRESSION, UNJUDGED
from edgeprune.tensor import IMAGE


@dataclass(frozen=True)
class Cells:
    """Rows as they are stored; an image is its compressed bytes, a row of numbers an array."""

    columns: dict[str, list[Any]]
    places: list[str]
    """Where each row lies, for messages."""

    def __len__(self) -> int:
        return len(self.places)

    def part(self, rows: Sequence[int] | NDArray[np.int64]) -> Cells:
        """Some of the rows."""
        columns = {name: [cells[row] for row in rows] for name, cells in self.columns.items()}
        return Cells(columns, [self.places[row] for row in rows])


def to_samples(
    cells: Cells,
    columns: Sequence[str],
    label: str | None,
    task: str,
    classes: int,
    resize: Resizing | None,
    channels: int | None = None,
) -> Samples:
    """Decode `columns` and the labels. Raises DataError naming the first cell that cannot be used."""
    decoded = {name: _column(cells, name, resize, channels) for name in columns}
    return Samples(decoded, None if label is None else to_labels(cells, label, task, classes))


def to_labels(cells: Cells, label: str, task: str, classes: int) -> NDArray[Any]:
    """The right answers [N]; those of no task are numbers of any shape [N, ...], for a user's metric.

    Raises DataError naming the first row that has none, or one that is out of range.
    """
    values = list(zip(cells.columns[label], cells.places, strict=True))
    if task == QUESTIONS:
        return objects([_answers(value, place) for value, place in values])
    if task == REGRESSION:
        return np.array([_number(value, place) for value, place in values], np.float32)
    if task == UNJUDGED:
        return np.stack([value if isinstance(value, np.ndarray) else _number(value, place) for value, place in values])
    return np.array([_class(value, classes, place) for value, place in values], np.int64)


def digests(cells: Cells, columns: Sequence[str], label: str | None) -> tuple[str, ...]:
    """One hash per row, of its cells as stored and its label: equal hashes are equal samples."""
    chosen = [cells.columns[name] for name in (*columns, *([label] if label else []))]
    return tuple(_digest(row) for row in zip(*chosen, strict=True))


def _digest(row: tuple[Any, ...]) -> str:
    digest = hashlib.sha256()
    for cell in row:
        content = cell if isinstance(cell, bytes) else _content(cell)
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def _content(cell: Any) -> bytes:
    if isinstance(cell, np.ndarray | np.generic):
        return f"{cell.dtype} {cell.shape} ".encode() + cell.tobytes()
    return repr(cell).encode("utf-8", "surrogatepass")


def _column(cells: Cells, name: str, resize: Resizing | None, channels: int | None) -> NDArray[Any]:
    values = cells.columns[name]
    if isinstance(values[0], np.ndarray | np.generic):  # a model's own input may be called `image`, too
        return np.stack(values)
    if name == IMAGE:
        return decode(values, cells.places, resize, channels)
    for value, place in zip(values, cells.places, strict=True):
        if not isinstance(value, str):
            raise DataError(f"{place}: {name} is {type(value).__name__} {value!r:.40}, text is needed")
    return objects(values)


def _class(value: Any, classes: int, place: str) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise DataError(f"{place}: label {value!r:.40} is no integer: classes are numbered from 0")
    if value < 0:
        raise DataError(f"{place}: label {value}: this row is not labelled: leave such rows out")
    if classes and value >= classes:
        raise DataError(f"{place}: label {value}: the {classes} classes are numbered from 0 to {classes - 1}")
    return int(value)


def _number(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
        raise DataError(f"{place}: label {value!r:.40} is no finite number")
    return float(value)


def _answers(value: Any, place: str) -> tuple[Answer, ...]:
    try:
        answers = tuple(map(Answer, map(str, value["text"]), map(int, value["answer_start"])))
    except (KeyError, TypeError, ValueError):
        answers = ()
    if not answers or len(value["text"]) != len(value["answer_start"]):
        raise DataError(f"{place}: has no answers: struct{{text[], answer_start[]}} with one at least is needed")
    return answers
