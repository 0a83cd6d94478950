"""What a task asks of a model's answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from edgeprune.judge import CLASSIFICATION, END, QUESTIONS, REGRESSION, START

T = TypeVar("T")


def misfit(outputs: Mapping[str, tuple[int, ...]], samples: int, arguments: Mapping[str, Any]) -> str:
    """What is needed in place of outputs of those shapes for so many samples; empty where they will do.

    `arguments` are those of a factory: `task`, `classes`, and `length` where the data are texts.
    """
    task, classes = arguments.get("task", CLASSIFICATION), arguments.get("classes", 0)
    shapes = list(outputs.values())
    single = any(shape in ((samples,), (samples, 1)) for shape in shapes)
    if task == CLASSIFICATION and not (shapes.count((samples, classes)) or (single and classes == 2)):
        return f"scores of {[samples, classes]} are needed"
    if task == REGRESSION and not single:
        return f"one value per sample, {[samples, 1]}, is needed"
    wanted = (samples, arguments.get("length"))
    if task == QUESTIONS and spans(outputs) != (wanted, wanted):
        return f"two outputs, {START} and {END}, each {list(wanted)}, are needed"
    if any(shape[:1] != (samples,) for shape in shapes):
        return f"{samples} rows are needed of each"
    return ""


def spans(outputs: Mapping[str, T]) -> tuple[T, T] | None:
    """Which two outputs score starts and ends: those of that name, or else the first two; None of fewer."""
    if START in outputs and END in outputs:
        return outputs[START], outputs[END]
    first = tuple(outputs.values())[:2]
    return (first[0], first[1]) if len(first) == 2 else None
