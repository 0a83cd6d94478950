from __future__ import annotations

import json

import numpy as np
import pytest

from edgeprune.data.preprocess import read_preprocess, write_preprocess
from edgeprune.data.samples import objects
from edgeprune.data.vocabulary import read_tokenizer
from edgeprune.data.wordpiece import Text, WordPiece, check_length, check_vocabulary
from edgeprune.errors import ConfigError, CorruptError, DataError

PAD, UNK, CLS, SEP = range(4)


def texts(*values, name="text"):
    return {name: objects(values)}


def tokens(word_piece, ids):
    return [word_piece._plain.id_to_token(number) for number in ids]


def test_a_text_becomes_numbers_between_marks_padded_on_the_right(word_piece):
    given = word_piece("text", length=8)
    out = given(texts("The film!", ""))
    assert tokens(given, out["input_ids"][0]) == ["[CLS]", "the", "film", "!", "[SEP]", *["[PAD]"] * 3]
    assert out["input_ids"][1].tolist() == [CLS, SEP, *[PAD] * 6]  # an empty text is one
    assert out["attention_mask"].tolist() == [[1] * 5 + [0] * 3, [1] * 2 + [0] * 6]
    assert [(spec.name, spec.dtype, spec.shape) for spec in given.specs] == [
        (name, array.dtype.name, ("batch", 8)) for name, array in out.items()
    ]
    assert given.specs[0].shape[1:] == out["input_ids"].shape[1:]


def test_no_texts_give_no_rows(word_piece):
    assert word_piece("text", length=8)(texts())["input_ids"].shape == (0, 8)


@pytest.mark.parametrize(("keep", "kept"), [("head", "abcdefgh"), ("tail", "klmnopqr"), ("both", "ab" + "mnopqr")])
def test_of_a_long_text_stays_what_is_asked_for(word_piece, keep, kept):
    given = word_piece("text", length=10, keep=keep)
    ids = given(texts(" ".join("abcdefghijklmnopqr")))["input_ids"][0]
    assert tokens(given, ids) == ["[CLS]", *kept, "[SEP]"]


def test_of_a_pair_the_longer_text_is_cut_first_and_the_second_is_marked(word_piece):
    given = word_piece("a", "b", length=9)
    out = given({"a": objects(["x y"]), "b": objects(["a b c d e f g"])})
    assert tokens(given, out["input_ids"][0]) == ["[CLS]", "x", "y", "[SEP]", *"abcd", "[SEP]"]
    assert out["token_type_ids"][0].tolist() == [0] * 4 + [1] * 5


def test_case_may_matter(vocabulary):
    text = Text(("text",), 4)
    cased = WordPiece(text, read_tokenizer(vocabulary, lowercase=False))
    assert tokens(cased, cased(texts("A"))["input_ids"][0])[1] == "A"
    lower = WordPiece(text, read_tokenizer(vocabulary))
    assert tokens(lower, lower(texts("A"))["input_ids"][0])[1] == "a"


def test_many_texts_are_as_many_single_ones(word_piece):
    given = word_piece("text", length=6)
    many = [f"film {number}" for number in range(1100)]
    together = given(texts(*many))["input_ids"]
    np.testing.assert_array_equal(together[1099], given(texts(many[1099]))["input_ids"][0])
    assert together.shape == (1100, 6)


@pytest.mark.parametrize(
    "how", [{"length": 8, "keep": "tail"}, {"length": 12, "keep": "both"}, {"length": 30, "stride": 5}]
)
def test_a_bundle_holds_all_that_is_needed(word_piece, tmp_path, how):
    names = ("question", "context") if "stride" in how else ("text",)
    given = word_piece(*names, **how)
    write_preprocess(given, tmp_path)
    read = read_preprocess(tmp_path)
    assert read == given
    columns = {name: objects(["the film was good " * 9 if name != "question" else "who"]) for name in names}
    np.testing.assert_array_equal(read(columns)["input_ids"], given(columns)["input_ids"])
    assert json.loads((tmp_path / "preprocess.json").read_text())["keep"] == how.get("keep", "head")


def test_the_tokenizer_of_a_bundle_cuts_and_pads_by_itself(word_piece, tmp_path):
    from tokenizers import Tokenizer

    given = word_piece("text", length=8, keep="tail")
    write_preprocess(given, tmp_path)
    alone = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("the film", "a b c d e f g h i j"):
        assert alone.encode(text).ids == given(texts(text))["input_ids"][0].tolist()


def test_a_damaged_tokenizer_is_told(word_piece, tmp_path):
    write_preprocess(word_piece("text", length=8), tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CorruptError, match="compile again"):
        read_preprocess(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CorruptError, match="compile again"):
        read_preprocess(tmp_path)


@pytest.mark.parametrize(
    ("columns", "how", "said"),
    [
        (("a",), {"length": 2}, "length 2: 2 tokens are special"),
        (("a", "b"), {"length": 3}, "length 3: 3 tokens are special"),
        (("a", "b"), {"length": 9, "keep": "both"}, "goes with one text"),
        (("a",), {"length": 9, "keep": "middle"}, "write one of head, tail, both"),
        (("a",), {"length": 9, "stride": 3}, "the second text of a pair"),
        (("a", "b"), {"length": 9, "stride": 9}, "less than the length 9"),
        (("a", "b", "c"), {"length": 9}, "one or two columns"),
    ],
)
def test_what_cannot_be_done_is_refused_at_birth(word_piece, columns, how, said):
    with pytest.raises(ConfigError, match=said):
        word_piece(*columns, **how)


def test_columns_that_are_no_text_are_refused(word_piece):
    given = word_piece("text", length=8)
    with pytest.raises(DataError, match="text 'text' is needed: there is sentence"):
        given(texts("a", name="sentence"))
    with pytest.raises(DataError, match="'text' holds int 3, text is needed"):
        given(texts("a", 3))


def test_a_model_made_for_another_vocabulary_or_for_shorter_texts_is_refused(word_piece):
    given = word_piece("text", length=8)
    check_vocabulary(given, given.vocabulary_size, "model.onnx")
    with pytest.raises(DataError, match=r"model.onnx: its embedding has 30 rows, the tokenizer goes up to token \d+"):
        check_vocabulary(given, 30, "model.onnx")
    check_length(given, 8, "model.onnx")
    with pytest.raises(DataError, match="takes 7 tokens at most, the data give 8: --length 7"):
        check_length(given, 7, "model.onnx")
