"""Who judges a split: its right answers, its task's metrics or the user's own, and what outputs mean."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from edgeprune.bundle import Task
from edgeprune.data.info import DatasetInfo
from edgeprune.data.splits import Splits
from edgeprune.judge import METRICS, Answers, Judge, Outputs, classified, valued


def judge(splits: Splits, split: str, task: Task) -> Judge | None:
    """The judge of a split; None where it is not labelled or nothing is asked of it."""
    truth = splits.labels(split)
    if truth is None or not task.metrics:
        return None
    metrics = tuple(METRICS[name] for name in task.metrics)
    return Judge(truth, metrics, _meaning(splits.info, task))


def _meaning(info: DatasetInfo, task: Task) -> Callable[[Outputs], Answers]:
    if task.name == "classification":
        return partial(classified, classes=len(info.classes), threshold=task.threshold)
    return valued
