from __future__ import annotations

import numpy as np
import pytest

from edgeprune.data.datasets import describe, read
from edgeprune.data.samples import Answer, Samples, objects
from edgeprune.data.squad import NOT_HERE, answers, targets, windows
from edgeprune.data.vocabulary import read_tokenizer
from edgeprune.data.wordpiece import Text, WordPiece
from edgeprune.errors import DataError
from edgeprune.judge import METRICS
from edgeprune.recipe import Rows

LETTERS = "a b c d e f g h i j k l m n o p q r s t"


def asked(*pairs, labels=None):
    columns = {"question": objects([one for one, _ in pairs]), "context": objects([one for _, one in pairs])}
    return Samples(columns, labels)


def scores(placed, peaks):
    """Start and end logits that are 0 but at `peaks`: (row, start, end, height)."""
    start, end = np.zeros((2, *placed.inside.shape), np.float32)
    for row, first, last, height in peaks:
        start[row, first], end[row, last] = height, height
    return {"start_logits": start, "end_logits": end}


def test_a_long_context_is_seen_through_windows_that_share_tokens(word_piece):
    given = word_piece("question", "context", length=14, stride=4)
    samples = asked(("who", LETTERS), ("who was it", "a b"))
    placed, out = windows(given, samples.columns), given(samples.columns)
    # 14 less three marks and one word of the question: ten letters, of which four come again.
    seen = [
        [LETTERS[low:high] for low, high in spans[here]]
        for spans, here in zip(placed.spans, placed.inside, strict=True)
    ]
    letters = LETTERS.split()
    assert seen == [letters[0:10], letters[6:16], letters[12:20], ["a", "b"]]
    assert placed.sample.tolist() == [0, 0, 0, 1]
    assert out["input_ids"].shape == (4, 14)
    assert (out["input_ids"][:, 1] == given._plain.token_to_id("who")).all()


def test_the_answer_is_the_best_span_over_all_windows_of_its_question(word_piece):
    given = word_piece("question", "context", length=14, stride=4)
    samples = asked(("who", LETTERS), ("who", "a b"))
    placed = windows(given, samples.columns)
    outputs = scores(placed, [(0, 3, 4, 1.0), (1, 5, 7, 2.0), (3, 3, 3, 1.0)])
    found = answers(outputs, placed, samples.columns["context"])["text"]
    assert found.tolist() == ["i j k", "a"]  # row 1 begins at g: tokens 3, 4, 5 are g, h, i


def test_a_span_starts_before_it_ends_lies_in_the_context_and_is_not_long(word_piece):
    given = word_piece("question", "context", length=64, stride=4)
    samples = asked(("who was it", "x " * 50))
    placed = windows(given, samples.columns)
    context = samples.columns["context"]
    backwards = scores(placed, [(0, 20, 10, 5.0)])  # either end alone is better than none
    assert 1 <= len(answers(backwards, placed, context)["text"][0].split()) <= 30
    outside = scores(placed, [(0, 1, 2, 9.0), (0, 8, 9, 1.0)])
    assert answers(outside, placed, context)["text"][0] == "x x"
    long = scores(placed, [(0, 6, 50, 5.0), (0, 10, 39, 4.0)])
    assert len(answers(long, placed, context)["text"][0].split()) == 30


def test_outputs_that_are_not_finite_answer_nothing(word_piece):
    given = word_piece("question", "context", length=14, stride=4)
    samples = asked(("who", "a b"))
    placed = windows(given, samples.columns)
    nothing = {name: np.full(placed.inside.shape, np.nan, np.float32) for name in ("start_logits", "end_logits")}
    assert answers(nothing, placed, samples.columns["context"])["text"].tolist() == [""]


def test_outputs_go_by_name_or_else_in_their_order(word_piece):
    given = word_piece("question", "context", length=14, stride=4)
    samples = asked(("who", "a b c"))
    placed = windows(given, samples.columns)
    named = scores(placed, [(0, 3, 4, 1.0)])
    expected = answers(named, placed, samples.columns["context"])["text"].tolist()
    swapped = {"end_logits": named["end_logits"], "start_logits": named["start_logits"]}
    ordered = {"output_0": named["start_logits"], "output_1": named["end_logits"], "hidden": np.zeros((1, 14, 8))}
    for outputs in (swapped, ordered):
        assert answers(outputs, placed, samples.columns["context"])["text"].tolist() == expected == ["a b"]


@pytest.mark.parametrize("shape", [(1, 14), (2, 13), (2,)])
def test_outputs_of_another_shape_are_refused(word_piece, shape):
    given = word_piece("question", "context", length=14, stride=4)
    samples = asked(("who", "a"), ("who", "b"))
    outputs = {"a": np.zeros(shape), "b": np.zeros(shape)}
    with pytest.raises(DataError, match=r"for each token, \[2, 14\]: the outputs are a \["):
        answers(outputs, windows(given, samples.columns), samples.columns["context"])


def test_targets_are_the_tokens_of_the_answer_in_the_windows_that_hold_all_of_it(word_piece):
    given = word_piece("question", "context", length=14, stride=4)
    start = LETTERS.index("j")
    samples = asked(("who", LETTERS), labels=objects([(Answer("j k", start), Answer("a", 0))]))
    found = targets(given, samples)
    assert found["start"].tolist() == [NOT_HERE, 6, NOT_HERE]  # the first window ends with j, the last begins after k
    assert found["end"].tolist() == [NOT_HERE, 7, NOT_HERE]


def test_an_answer_that_is_not_where_it_should_be_is_refused(word_piece):
    given = word_piece("question", "context", length=14, stride=4)
    for answer in (Answer("b", 0), Answer("", 0), Answer("a", 40)):
        with pytest.raises(DataError, match=r"sample 0: its answer .* is not in the context"):
            targets(given, asked(("who", "a b"), labels=objects([(answer,)])))
    with pytest.raises(DataError, match="without answers"):
        targets(given, asked(("who", "a b")))


def test_a_question_that_leaves_no_room_is_refused(word_piece):
    given = word_piece("question", "context", length=14, stride=4)
    with pytest.raises(DataError, match="sample 1: its question has 8 tokens; of 14 it leaves 3, 4 of them shared"):
        given(asked(("who", "a"), ("a b c d e f g h", "a")).columns)


def test_targets_turned_into_scores_give_the_answers_back_on_the_shared_questions(shared_data, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_DATA", str(shared_data))
    info = describe("squad")
    samples = read(Rows(source="squad:validation", stop=400), info, root=shared_data)
    given = WordPiece(Text(info.columns, 96, stride=32), read_tokenizer(None))
    placed, right = windows(given, samples.columns), targets(given, samples)
    assert len(placed.sample) > 2 * len(samples)
    rows = np.arange(len(placed.sample))
    start, end = np.full((2, *placed.inside.shape), -5.0, np.float32)
    start[rows, right["start"]], end[rows, right["end"]] = 5, 5
    found = answers({"start_logits": start, "end_logits": end}, placed, samples.columns["context"])
    truth = objects([tuple(answer.text for answer in one) for one in samples.labels])
    assert METRICS["exact-match"].score(found, truth) > 0.98  # answers of more than 30 tokens or cut in a word
