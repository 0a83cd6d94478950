from __future__ import annotations

import pytest

from edgeprune.models.task import misfit, spans

TWO, TEN = {"task": "classification", "classes": 2}, {"task": "classification", "classes": 10}
VALUE, QUESTION = {"task": "regression", "classes": 1}, {"task": "question-answering", "classes": 0, "length": 7}


@pytest.mark.parametrize(
    ("shapes", "arguments", "needed"),
    [
        ({"output": (3, 10)}, TEN, ""),
        ({"features": (3, 99), "scores": (3, 10)}, TEN, ""),
        ({"output": (3, 2)}, TWO, ""),
        ({"output": (3, 1)}, TWO, ""),
        ({"output": (3,)}, TWO, ""),
        ({"output": (3, 1)}, TEN, r"scores of [3, 10]"),
        ({"output": (3, 9)}, TEN, r"scores of [3, 10]"),
        ({"output": (1, 10)}, TEN, r"scores of [3, 10]"),
        ({"scores": (3, 10), "state": (1, 5)}, TEN, "3 rows"),
        ({"output": (3,)}, VALUE, ""),
        ({"output": (3, 2)}, VALUE, "one value per sample"),
        ({"start_logits": (3, 7), "end_logits": (3, 7)}, QUESTION, ""),
        ({"output_0": (3, 7), "output_1": (3, 7)}, QUESTION, ""),
        ({"output": (3, 7)}, QUESTION, "start_logits and end_logits, each [3, 7]"),
        ({"start_logits": (3, 6), "end_logits": (3, 6)}, QUESTION, "each [3, 7]"),
        ({"anything": (3, 4, 5)}, {"task": "none"}, ""),
        ({"anything": ()}, {"task": "none"}, "3 rows"),
    ],
)
def test_a_task_says_what_it_needs(shapes, arguments, needed):
    found = misfit(shapes, 3, arguments)
    assert needed in found
    assert bool(found) == bool(needed)


def test_starts_and_ends_go_by_name_before_their_place():
    assert spans({"end_logits": 1, "start_logits": 2, "more": 3}) == (2, 1)
    assert spans({"a": 1, "b": 2, "c": 3}) == (1, 2)
    assert spans({"a": 1}) is None
