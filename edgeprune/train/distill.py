"""Learn from what another network answers: the unpruned one teaches what is left of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeprune.judge import CLASSIFICATION
from edgeprune.train.loss import is_probability


def distillation(task: str, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], temperature: float) -> Tensor:
    """How far two networks' answers to a batch lie apart, the mean over all outputs.

    Of scores [N, classes], and of those of an answer's start and end, T^2 KL(softmax(t / T) || softmax(s / T)), whose
    gradient does not depend on T (Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015,
    section 2.1); of a single score the same for two classes. Of a value, the squared error.
    """
    with torch.autocast(next(iter(student.values())).device.type, enabled=False):
        parts = [
            _apart(task, one.float(), teacher[name].detach().float(), temperature) for name, one in student.items()
        ]
    return torch.stack(parts).mean()


def _apart(task: str, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    if student.ndim > 1 and student.shape[-1] > 1:
        s, t = (F.log_softmax(one / temperature, -1) for one in (student, teacher))
        divergence = F.kl_div(s, t, reduction="none", log_target=True).sum(-1).mean()
        return temperature**2 * divergence
    if task != CLASSIFICATION:
        return F.mse_loss(student, teacher)
    if is_probability(student):
        return F.binary_cross_entropy(student, teacher)
    target = torch.sigmoid(teacher / temperature)
    least = F.binary_cross_entropy(target, target)  # of the teacher itself: what is left is the divergence
    return temperature**2 * (F.binary_cross_entropy_with_logits(student / temperature, target) - least)
