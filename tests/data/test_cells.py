from __future__ import annotations

import pytest

from edgeprune.data.cells import Cells, digests, to_labels
from edgeprune.data.samples import Answer
from edgeprune.errors import DataError


def labelled(*values):
    return Cells({"label": list(values)}, [f"file row {row}" for row in range(len(values))])


@pytest.mark.parametrize(
    ("task", "classes", "values", "said"),
    [
        ("classification", 2, [0, 2], "row 1: label 2: the 2 classes are numbered from 0 to 1"),
        ("classification", 2, [0, -1], "row 1: label -1: this row is not labelled: leave such rows out"),
        ("classification", 2, [0, 0.5], "row 1: label 0.5 is no integer"),
        ("classification", 0, [None], "row 0: label None is no integer"),
        ("regression", 0, [0.5, float("inf")], "row 1: label inf is no finite number"),
        ("regression", 0, ["five"], "row 0: label 'five' is no finite number"),
        ("question-answering", 0, [{"text": ["a"], "answer_start": []}], "row 0: has no answers"),
        ("question-answering", 0, [None], "row 0: has no answers"),
    ],
)
def test_a_label_that_is_none_is_told_with_its_row(task, classes, values, said):
    with pytest.raises(DataError, match=said):
        to_labels(labelled(*values), "label", task, classes)


def test_questions_keep_all_their_answers():
    found = to_labels(
        labelled({"text": ["a", "b"], "answer_start": [3, 4]}, {"text": ["c", "d"], "answer_start": [0, 1]}),
        "label",
        "question-answering",
        0,
    )
    assert found.shape == (2,)
    assert found[0] == (Answer("a", 3), Answer("b", 4))


def test_a_digest_is_of_every_cell_and_where_it_ends():
    rows = Cells({"a": ["xy", "x", "xy"], "b": ["z", "yz", "z"], "label": [0, 0, 1]}, ["", "", ""])
    assert len(set(digests(rows, ("a", "b"), "label"))) == 3
    assert len(set(digests(rows, ("a", "b"), None))) == 2
