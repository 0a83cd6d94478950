from __future__ import annotations

import numpy as np
import pytest

from edgeprune.errors import CorruptError
from edgeprune.report.answers import Answer, best, class_scores, lines, read_labels

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.1, 0.5]], np.float32)
LABELS = ("cat", "dog", "eel")


def test_the_best_class_comes_first_and_the_earlier_one_where_two_are_equal():
    answers = best(SCORES, LABELS, 2)
    assert answers[0] == (Answer(1, "dog", pytest.approx(0.7)), Answer(2, "eel", pytest.approx(0.2)))
    assert [answer.label for answer in answers[1]] == ["cat", "eel"]


def test_the_output_with_a_score_per_class_is_found():
    outputs = {"boxes": np.zeros((2, 4)), "scores": SCORES}
    assert class_scores(outputs, LABELS) is SCORES
    assert class_scores(outputs, ()) is None
    assert lines(outputs, LABELS)[0] == "0: dog (0.7), eel (0.2), cat (0.1)"


def test_where_there_are_no_classes_the_outputs_are_described():
    assert lines({"y": np.array([[1.0, 3.0]])}, ()) == ("y: float64 [1, 2], from 1 to 3, mean 2",)
    assert lines({"y": np.zeros((0, 4))}, ()) == ("y: float64 [0, 4]",)


def test_labels_are_read_or_absent_or_damaged(tmp_path):
    assert read_labels(tmp_path) == ()
    (tmp_path / "labels.json").write_text('["a", "b"]')
    assert read_labels(tmp_path) == ("a", "b")
    (tmp_path / "labels.json").write_text("[")
    with pytest.raises(CorruptError, match=r"labels\.json"):
        read_labels(tmp_path)
