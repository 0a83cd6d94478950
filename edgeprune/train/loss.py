"""What a task minimizes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeprune.errors import ConfigError, ModelError
from edgeprune.judge import CLASSIFICATION, QUESTIONS, REGRESSION
from edgeprune.models.task import spans

RESHAPES = ("ViewBackward", "UnsafeViewBackward", "SqueezeBackward", "SelectBackward", "ReshapeAliasBackward")


def loss_of(task: str, outputs: Mapping[str, Tensor], targets: Tensor) -> Tensor:
    """The mean over a batch.

    Classification: the cross-entropy of the output [N, classes]; of a single score the binary one, whether it is a
    logit or went through a sigmoid. Regression: the squared error. Questions: the mean of the cross-entropies of start
    and end, `targets` [N, 2]. Raises ModelError where no output will do.
    """
    if task == CLASSIFICATION:
        scores = next((one for one in outputs.values() if one.ndim == 2 and one.shape[1] > 1), None)
        return _binary(_single(outputs, len(targets)), targets) if scores is None else F.cross_entropy(scores, targets)
    if task == REGRESSION:
        return F.mse_loss(_single(outputs, len(targets)).float(), targets)
    found = spans(outputs)
    if found is None:
        raise ModelError(f"questions need scores of a start and an end, the model gives {', '.join(outputs)}")
    start, end = found
    return (F.cross_entropy(start, targets[:, 0]) + F.cross_entropy(end, targets[:, 1])) / 2


def check_trainable(task: str) -> None:
    """Refuse a task that says nothing of what is right. Raises ConfigError."""
    if task not in (CLASSIFICATION, REGRESSION, QUESTIONS):
        raise ConfigError(f"task {task}: nothing says what to train for: give --weights, or the task (--task)")


def _single(outputs: Mapping[str, Tensor], rows: int) -> Tensor:
    """The one output with a single number per row, [N]."""
    for one in outputs.values():
        if one.numel() == rows:
            return one.reshape(-1)
    shapes = ", ".join(f"{name} {list(one.shape)}" for name, one in outputs.items())
    raise ModelError(f"no output has one number for each of {rows} samples: {shapes}")


def _binary(score: Tensor, targets: Tensor) -> Tensor:
    with torch.autocast(score.device.type, enabled=False):  # logarithms near 0 want all the digits there are
        if is_probability(score):
            return F.binary_cross_entropy(score.float(), targets.float())
        return F.binary_cross_entropy_with_logits(score.float(), targets.float())


def is_probability(score: Tensor) -> bool:
    """Whether a sigmoid was the last thing that was computed."""
    node = score.grad_fn
    while node is not None and node.name().startswith(RESHAPES):
        node = node.next_functions[0][0]
    return node is not None and node.name().startswith("SigmoidBackward")
