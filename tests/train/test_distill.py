from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgeprune.data.datasets import describe, read
from edgeprune.recipe import Rows, TrainPart
from edgeprune.train.distill import distillation
from edgeprune.train.fit import fit

CLASSES, VALUE, SPANS = "classification", "regression", "question-answering"


def scores(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("task", "shape"), [(CLASSES, (4, 5)), (CLASSES, (4, 1)), (VALUE, (4, 1)), (SPANS, (4, 7))])
def test_it_is_zero_where_both_say_the_same_and_only_there(task, shape):
    same, other = scores(*shape), scores(*shape, seed=1)
    assert float(distillation(task, {"y": same}, {"y": same}, 3.0)) == pytest.approx(0, abs=1e-6)
    assert float(distillation(task, {"y": same}, {"y": other}, 3.0)) > 0.01


def test_the_gradient_hardly_depends_on_the_temperature():
    """Section 2.1: at a high temperature it is (s - t) / classes for scores of mean zero."""
    teacher = scores(3, 4) - scores(3, 4).mean(1, keepdim=True)
    for temperature in (50.0, 100.0):
        student = torch.zeros(3, 4, requires_grad=True)
        distillation(CLASSES, {"y": student}, {"y": teacher}, temperature).backward()
        torch.testing.assert_close(student.grad, -teacher / 4 / 3, rtol=0.05, atol=1e-3)


def test_a_single_score_is_that_of_the_second_of_two_classes():
    student, teacher = scores(6, 1), scores(6, 1, seed=1)
    zero = torch.zeros(6, 1)
    both = distillation(CLASSES, {"y": torch.cat([zero, student], 1)}, {"y": torch.cat([zero, teacher], 1)}, 2.0)
    torch.testing.assert_close(distillation(CLASSES, {"y": student}, {"y": teacher}, 2.0), both)


def test_a_probability_is_compared_as_one():
    score = scores(6, 1).requires_grad_(True)
    student, teacher = torch.sigmoid(score), torch.sigmoid(scores(6, 1, seed=1))
    assert distillation(CLASSES, {"y": student}, {"y": teacher}, 2.0) == F.binary_cross_entropy(student, teacher)


def test_a_network_learns_from_another_what_no_label_says():
    """The labels are all of one class; the teacher's answers are not."""
    info = describe("digits")
    samples = read(Rows(source="digits:all", stop=300), info)
    torch.manual_seed(0)
    teacher, student = (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(2))
    for _ in fit(teacher, samples, info.preprocess, TrainPart(batch=32, lr=0.01), epochs=15, seed=0):
        pass
    part = TrainPart(batch=32, lr=0.01, distill=1.0)
    wrong = type(samples)(samples.columns, samples.labels * 0)
    for _ in fit(student, wrong, info.preprocess, part, epochs=15, seed=0, teacher=teacher):
        pass
    x = torch.from_numpy(info.preprocess(samples.columns)["image"])
    assert (student(x).argmax(1) == teacher(x).argmax(1)).float().mean() > 0.95
