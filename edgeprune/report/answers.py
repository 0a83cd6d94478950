"""What a model answered to each sample: its best classes by name, or what its outputs look like."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import CorruptError

LABELS = "labels.json"
TOP = 3


@dataclass(frozen=True)
class Answer:
    """One class for one sample."""

    index: int
    label: str
    score: float
    """As the model gives it: the larger, the likelier."""


def read_labels(root: Path) -> tuple[str, ...]:
    """The classes' names of a bundle; none where it has no such file. Raises CorruptError."""
    path = root / LABELS
    if not path.is_file():
        return ()
    try:
        return tuple(map(str, json.loads(path.read_bytes())))
    except (ValueError, TypeError) as error:
        raise CorruptError(f"{path}: no list of names: compile again") from error


def best(scores: NDArray[Any], labels: Sequence[str], count: int = TOP) -> tuple[tuple[Answer, ...], ...]:
    """The best classes of each sample, the best first; scores [N, classes]."""
    order = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :count]
    return tuple(
        tuple(Answer(int(index), labels[index], float(row[index])) for index in chosen)
        for row, chosen in zip(scores, order, strict=True)
    )


def class_scores(outputs: Mapping[str, NDArray[Any]], labels: Sequence[str]) -> NDArray[Any] | None:
    """The output that has one score per class, [N, classes]; None where there is none, or no labels."""
    return next((scores for scores in outputs.values() if labels and scores.shape[1:] == (len(labels),)), None)


def lines(outputs: Mapping[str, NDArray[Any]], labels: Sequence[str]) -> tuple[str, ...]:
    """A line per sample; where no output has a score per class, a line per output."""
    scores = class_scores(outputs, labels)
    if scores is None:
        return tuple(f"{name}: {_spread(values)}" for name, values in outputs.items())
    return tuple(
        f"{number}: " + ", ".join(f"{answer.label} ({answer.score:.4g})" for answer in answers)
        for number, answers in enumerate(best(scores, labels))
    )


def _spread(values: NDArray[Any]) -> str:
    shown = f"{values.dtype} {list(values.shape)}"
    if values.size == 0:
        return shown
    return f"{shown}, from {values.min():.4g} to {values.max():.4g}, mean {values.mean():.4g}"
