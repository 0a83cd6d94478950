from __future__ import annotations

import numpy as np
import pytest

from edgeprune.errors import DataError
from edgeprune.judge import CLASS, METRICS, TEXT, VALUE, Judge, classified, valued

RANDOM = np.random.default_rng(0)


def judge(truth, *names):
    return Judge(np.asarray(truth), tuple(METRICS[name] for name in names), lambda outputs: outputs)


def test_the_class_comes_from_the_output_with_a_score_for_each():
    outputs = {"hidden": np.zeros((2, 5)), "logits": np.array([[0.1, 0.9, 0], [3, 1, 2]])}
    assert classified(outputs, 3)[CLASS].tolist() == [1, 0]


@pytest.mark.parametrize(("shape", "threshold"), [((3,), 0.0), ((3, 1), 0.0), ((3, 1), 0.5)])
def test_a_single_score_decides_between_two(shape, threshold):
    scores = np.array([-0.1, 0.1, 0.2]).reshape(shape) + threshold
    assert classified({"y": scores}, 2, threshold)[CLASS].tolist() == [0, 1, 1]


def test_outputs_that_answer_nothing_are_told_with_their_shapes():
    with pytest.raises(DataError, match=r"each of the 3 classes: y \[2, 4\], z \[2\]"):
        classified({"y": np.zeros((2, 4)), "z": np.zeros(2)}, 3)
    with pytest.raises(DataError, match=r"no output has one value per sample: y \[2, 4\]"):
        valued({"y": np.zeros((2, 4))})


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 1, 1)])
def test_a_value_is_a_value_in_any_number_of_brackets(shape):
    assert valued({"y": np.arange(3.0).reshape(shape)})[VALUE].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "kind", "truth"),
    [
        ("top1", CLASS, RANDOM.integers(0, 2, 300)),
        ("f1", CLASS, RANDOM.integers(0, 2, 300)),
        ("matthews", CLASS, RANDOM.integers(0, 2, 300)),
        ("pearson", VALUE, RANDOM.normal(size=300)),
        ("spearman", VALUE, RANDOM.normal(size=300)),
    ],
)
def test_right_answers_score_one_and_lose_nothing_against_themselves(name, kind, truth):
    one = judge(truth, name)
    value = one.value(one.metrics[0], {kind: truth})
    assert value.estimate == pytest.approx(1)
    assert value.low <= value.estimate <= value.high + 1e-12
    drop = one.drop(one.metrics[0], {kind: truth}, {kind: truth})
    assert drop.estimate == 0
    assert drop.low <= 0 <= drop.high


@pytest.mark.parametrize("name", ["top1", "f1", "matthews"])
def test_a_real_loss_lies_outside_what_chance_explains(name):
    truth = RANDOM.integers(0, 2, 1000)
    worse = np.where(np.arange(1000) < 100, 1 - truth, truth)
    one = judge(truth, name)
    drop = one.drop(one.metrics[0], {CLASS: truth}, {CLASS: worse})
    assert 0 < drop.low < drop.estimate < drop.high
    assert drop.estimate == pytest.approx(0.2 if name == "matthews" else 0.1, abs=0.02)


def test_answers_in_words_score_between_zero_and_one():
    truth = np.empty(4, object)
    truth[:] = [("the cat",), ("a dog", "dogs"), ("two birds",), ("fish",)]
    answers = np.array(["cat", "dogs", "birds", "cow"], object)
    one = judge(truth, "exact-match", "span-f1")
    exact, overlap = (one.value(metric, {TEXT: answers}) for metric in one.metrics)
    assert exact.estimate == 0.5
    assert overlap.estimate == pytest.approx((1 + 1 + 2 / 3 + 0) / 4)
    assert 0 <= overlap.low < overlap.high <= 1
    nothing = {TEXT: np.array([""] * 4, object)}
    assert one.drop(one.metrics[1], {TEXT: answers}, nothing).estimate == pytest.approx(overlap.estimate)
