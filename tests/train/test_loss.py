from __future__ import annotations

import math

import pytest
import torch

from edgeprune.errors import ConfigError, ModelError
from edgeprune.train.loss import check_trainable, loss_of

LABELS = torch.tensor([1, 0, 1])


def test_scores_per_class_are_judged_by_cross_entropy():
    even = torch.zeros(3, 2)
    assert float(loss_of("classification", {"features": torch.ones(3, 4, 4), "scores": even}, LABELS)) == pytest.approx(
        math.log(2)
    )


@pytest.mark.parametrize("shape", [(3, 1), (3,)])
def test_a_single_score_is_a_logit_or_what_a_sigmoid_made_of_it(shape):
    logit = torch.tensor([0.3, -1.2, 2.0], requires_grad=True).reshape(shape)
    expected = float(-torch.nn.functional.logsigmoid(torch.tensor([0.3, 1.2, 2.0])).mean())
    for score in (logit, torch.sigmoid(logit), torch.sigmoid(logit.reshape(3, 1)).squeeze(1)):
        assert loss_of("classification", {"output": score}, LABELS).item() == pytest.approx(expected, rel=1e-5)


def test_values_are_judged_by_the_squared_error():
    values = torch.tensor([[1.0], [2.0], [5.0]])
    assert float(loss_of("regression", {"output": values}, torch.tensor([1.0, 2.0, 3.0]))) == pytest.approx(4 / 3)


def test_questions_are_judged_by_both_ends():
    targets = torch.tensor([[0, 1], [2, 3]])
    even, sure = torch.zeros(2, 4), torch.zeros(2, 4).index_put((torch.arange(2), targets[:, 1]), torch.tensor(50.0))
    found = loss_of("question-answering", {"end_logits": sure, "start_logits": even}, targets)
    assert float(found) == pytest.approx(math.log(4) / 2)
    assert float(loss_of("question-answering", {"a": even, "b": sure}, targets)) == pytest.approx(math.log(4) / 2)


@pytest.mark.parametrize(
    ("task", "outputs", "message"),
    [
        (
            "classification",
            {"x": torch.ones(3, 4, 5)},
            r"no output has one number for each of 3 samples: x \[3, 4, 5\]",
        ),
        ("regression", {"x": torch.ones(3, 2)}, "one number for each of 3"),
        ("question-answering", {"x": torch.ones(3, 2)}, "a start and an end, the model gives x"),
    ],
)
def test_outputs_that_say_nothing_of_the_task_are_refused(task, outputs, message):
    with pytest.raises(ModelError, match=message):
        loss_of(task, outputs, LABELS)


def test_a_task_that_says_nothing_of_what_is_right_is_refused():
    check_trainable("regression")
    with pytest.raises(ConfigError, match="task none: nothing says what to train for"):
        check_trainable("none")
