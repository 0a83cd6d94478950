"""Stored cells, column by column, and what they become: pixels, text, classes, values, answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.data.encoded import Resize, decode
from edgeprune.data.samples import IMAGE, Samples
from edgeprune.errors import DataError


@dataclass(frozen=True)
class Cells:
    """Rows as they are stored; an image is its compressed bytes."""

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
    cells: Cells, columns: Sequence[str], label: str | None, task: str, classes: int, resize: Resize | None
) -> Samples:
    """Decode `columns` and the labels. Raises DataError naming the first cell that cannot be used."""
    decoded = {name: _column(cells, name, resize) for name in columns}
    return Samples(decoded, None if label is None else to_labels(cells, label, task, classes))


def to_labels(cells: Cells, label: str, task: str, classes: int) -> NDArray[Any]:
    """The right answers [N]. Raises DataError naming the first row that has none, or one that is out of range."""
    values = cells.columns[label]
    if task == "question-answering":
        return _objects([_answers(value, place) for value, place in zip(values, cells.places, strict=True)])
    if task == "regression":
        return np.array([_number(value, place) for value, place in zip(values, cells.places, strict=True)], np.float32)
    for value, place in zip(values, cells.places, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise DataError(f"{place}: label {value!r} is no integer: classes are numbered from 0")
        if value < 0:
            raise DataError(f"{place}: label {value}: this row is not labelled")
        if classes and value >= classes:
            raise DataError(f"{place}: label {value}: the {classes} classes are numbered from 0 to {classes - 1}")
    return np.array(values, np.int64)


def digests(cells: Cells, columns: Sequence[str], label: str | None) -> tuple[str, ...]:
    """One hash per row, of its cells as stored and its label: equal hashes are equal samples."""
    chosen = [cells.columns[name] for name in (*columns, *([label] if label else []))]
    return tuple(_digest(row) for row in zip(*chosen, strict=True))


def _digest(row: tuple[Any, ...]) -> str:
    digest = hashlib.sha256()
    for cell in row:
        content = cell if isinstance(cell, bytes) else repr(cell).encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def _column(cells: Cells, name: str, resize: Resize | None) -> NDArray[Any]:
    values = cells.columns[name]
    if name == IMAGE:
        return decode(values, cells.places, resize)
    for value, place in zip(values, cells.places, strict=True):
        if not isinstance(value, str):
            raise DataError(f"{place}: {name} is {type(value).__name__} {value!r:.40}, text is needed")
    return _objects(values)


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _number(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
        raise DataError(f"{place}: label {value!r} is no finite number")
    return float(value)


def _answers(value: Any, place: str) -> tuple[str, ...]:
    texts = tuple(value.get("text") or ()) if isinstance(value, dict) else ()
    if not texts:
        raise DataError(f"{place}: has no answers: struct{{text[], answer_start[]}} with one at least is needed")
    return texts
