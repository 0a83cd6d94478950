"""How a model's answers are scored: the metrics of the tasks, each with an interval, and on what is lost one, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import DataError
from edgeprune.metrics import (
    Interval,
    bootstrap,
    f1,
    matthews,
    mean_interval,
    paired_drop,
    pearson,
    span_f1,
    spans_equal,
    spearman,
    top1,
    wilson,
)

Outputs = Mapping[str, NDArray[Any]]
Answers = Mapping[str, NDArray[Any]]
"""What was answered to each sample: arrays [N] of classes, values or texts, or a model's outputs [N, ...] unchanged."""

CLASS, VALUE, TEXT = "class", "value", "text"

CLASSIFICATION, REGRESSION, QUESTIONS, UNJUDGED = "classification", "regression", "question-answering", "none"
"""What can be asked of a model."""
START, END = "start_logits", "end_logits"
"""Of questions: scores [N, length] of the tokens that an answer begins and ends with."""


@dataclass(frozen=True)
class Metric:
    """A number between answers and truth; the larger, the better."""

    name: str
    score: Callable[[Answers, NDArray[Any]], float]
    """Over all samples at once."""
    marks: Callable[[Answers, NDArray[Any]], NDArray[Any]] | None = None
    """One mark from 0 to 1 per sample [N], where the score is their mean: its interval needs no resampling."""


def _mean_of(name: str, marks: Callable[[Answers, NDArray[Any]], NDArray[Any]]) -> Metric:
    return Metric(name, lambda answers, truth: float(np.mean(marks(answers, truth))), marks)


METRICS = {
    metric.name: metric
    for metric in (
        _mean_of("top1", lambda answers, truth: answers[CLASS] == truth),
        Metric("f1", lambda answers, truth: f1(answers[CLASS], truth)),
        Metric("matthews", lambda answers, truth: matthews(answers[CLASS], truth)),
        Metric("pearson", lambda answers, truth: pearson(answers[VALUE], truth)),
        Metric("spearman", lambda answers, truth: spearman(answers[VALUE], truth)),
        _mean_of("exact-match", lambda answers, truth: spans_equal(answers[TEXT], truth)),
        _mean_of("span-f1", lambda answers, truth: span_f1(answers[TEXT], truth)),
    )
}


@dataclass(frozen=True)
class Judge:
    """Scores the outputs of a model for one split."""

    truth: NDArray[Any]
    """The right answers [N]."""
    metrics: tuple[Metric, ...]
    """Budgets are judged by the first."""
    answers: Callable[[Outputs], Answers]
    """What outputs mean; several rows of outputs may belong to one sample."""

    @cached_property
    def samples(self) -> int:
        """How many answers are judged."""
        return len(self.truth)

    def value(self, metric: Metric, answers: Answers) -> Interval:
        """The score with its interval at 95 %: Wilson's of a proportion, of a mean, else by resampling."""
        if metric.marks is None:
            return bootstrap(lambda rows: metric.score(_rows(answers, rows), self.truth[rows]), self.samples)
        marks = metric.marks(answers, self.truth)
        if marks.dtype == bool:
            return wilson(int(marks.sum()), len(marks))
        mean = mean_interval(marks)
        return replace(mean, low=max(mean.low, 0.0), high=min(mean.high, 1.0))

    def drop(self, metric: Metric, reference: Answers, candidate: Answers) -> Interval:
        """What the score loses from reference to candidate, with an interval that pairs them sample by sample."""
        if metric.marks is None:

            def lost(rows: NDArray[np.int64]) -> float:
                truth = self.truth[rows]
                return metric.score(_rows(reference, rows), truth) - metric.score(_rows(candidate, rows), truth)

            return bootstrap(lost, self.samples)
        before, after = metric.marks(reference, self.truth), metric.marks(candidate, self.truth)
        return paired_drop(before, after) if before.dtype == bool else mean_interval(before - after)


def classified(outputs: Outputs, classes: int, threshold: float = 0.0) -> Answers:
    """The class of each sample, from the one output that has a score per class; a single score decides between two.

    `threshold`: above it a single score means class 1: 0 for a logit, 0.5 for a probability. Raises DataError where no
    output has that shape.
    """
    scores = next((array for array in outputs.values() if array.shape[1:] == (classes,)), None)
    if scores is not None:
        return {CLASS: top1(scores)}
    single = next((array for array in outputs.values() if classes == 2 and array[:1].size == 1), None)
    if single is None:
        raise DataError(f"no output has one score for each of the {classes} classes: {_shapes(outputs)}")
    return {CLASS: (single.reshape(-1) > threshold).astype(np.int64)}


def valued(outputs: Outputs) -> Answers:
    """The number that a regression answers to each sample. Raises DataError where no output has one."""
    single = next((array for array in outputs.values() if array[:1].size == 1), None)
    if single is None:
        raise DataError(f"no output has one value per sample: {_shapes(outputs)}")
    return {VALUE: single.reshape(-1)}


def _rows(answers: Answers, rows: NDArray[np.int64]) -> Answers:
    return {name: array[rows] for name, array in answers.items()}


def _shapes(outputs: Outputs) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
