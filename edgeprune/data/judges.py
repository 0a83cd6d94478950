"""Who judges a split: its right answers, its task's metrics or the user's own, and what outputs mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.bundle import Task
from edgeprune.data import squad
from edgeprune.data.samples import objects
from edgeprune.data.splits import Splits
from edgeprune.data.wordpiece import WordPiece
from edgeprune.errors import DataError
from edgeprune.judge import CLASSIFICATION, METRICS, QUESTIONS, Answers, Judge, Metric, Outputs, classified, valued
from edgeprune.registry import unknown
from edgeprune.user_code import UserFunction


def judge(splits: Splits, split: str, task: Task) -> Judge | None:
    """The judge of a split; None where it is not labelled or nothing is asked of it.

    A user's metric gets the outputs of all samples as they are and their labels; for questions the answers, as
    `{"text": [N]}`, and per question a tuple of the right ones.
    """
    truth = splits.labels(split)
    if truth is None or not task.metrics:
        return None
    if task.name == QUESTIONS:
        truth = objects([tuple(answer.text for answer in answers) for answers in truth])
    return Judge(truth, _metrics(splits, task), _meaning(splits, split, task, len(truth)))


def _metrics(splits: Splits, task: Task) -> tuple[Metric, ...]:
    if splits.metric is not None:
        return (users(splits.metric),)
    if strange := [name for name in task.metrics if name not in METRICS]:
        raise unknown("metric", strange[0], METRICS)
    return tuple(METRICS[name] for name in task.metrics)


def _meaning(splits: Splits, split: str, task: Task, samples: int) -> Callable[[Outputs], Answers]:
    if task.name == QUESTIONS:
        assert isinstance(splits.preprocess, WordPiece)
        columns = splits.samples(split).columns
        placed = squad.windows(splits.preprocess, columns)
        return partial(squad.answers, windows=placed, contexts=columns["context"])
    if splits.metric is not None:
        return partial(_as_they_are, samples=samples)
    if task.name == CLASSIFICATION:
        return partial(classified, classes=len(splits.info.classes), threshold=task.threshold)
    return valued


def _as_they_are(outputs: Outputs, samples: int) -> Answers:
    """Raises DataError for an output that has no row for each sample."""
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != samples:
            raise DataError(f"output {name} {list(array.shape)}: one row for each of {samples} samples is needed")
    return outputs


def users(function: UserFunction) -> Metric:
    """A function (outputs by name, labels) -> number of the user, as a metric.

    Its score raises ModelError with the line where the function raised, DataError where it gives no finite number.
    """

    def score(answers: Answers, truth: NDArray[Any]) -> float:
        value = function(dict(answers), truth)
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.item()
        if not isinstance(value, Real) or not math.isfinite(value):
            code = getattr(function.function, "__code__", None)
            line = f" (line {code.co_firstlineno})" if code else ""
            raise DataError(
                f"{function.path}: {function.name}{line} returned {value!r:.40} for {len(truth)} samples:"
                " a finite number is needed"
            )
        return float(value)

    return Metric(function.name, score)
