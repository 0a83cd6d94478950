from __future__ import annotations

import json

import numpy as np
import pytest

from edgeprune.data.pixels import Pixels
from edgeprune.data.preprocess import feeds, fits, read_preprocess, write_preprocess
from edgeprune.data.tensors import Tensors
from edgeprune.errors import CorruptError, DataError
from edgeprune.tensor import TEXT, TensorSpec

PIXELS = Pixels((8, 8), 16, (0.5,), (0.25,))
IDS = TensorSpec("ids", "int64", ("batch", 4))


@pytest.mark.parametrize("given", [PIXELS, Tensors((IDS, TensorSpec("x", "float32", ("batch", 3, 2))))])
def test_what_a_bundle_does_to_samples_is_read_from_its_file(tmp_path, given):
    assert read_preprocess(tmp_path) is None
    write_preprocess(given, tmp_path)
    assert read_preprocess(tmp_path) == given


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "no JSON that says its kind"), ("[]", "no JSON"), ('{"kind": "sound"}', "kind 'sound', this version knows")],
)
def test_a_file_that_says_nothing_we_know_is_told(tmp_path, content, said):
    (tmp_path / "preprocess.json").write_text(content)
    with pytest.raises(CorruptError, match=said):
        read_preprocess(tmp_path)
    (tmp_path / "preprocess.json").write_text(json.dumps({"kind": "tensors", "inputs": [["x"]]}))
    with pytest.raises(CorruptError, match="inputs are needed"):
        read_preprocess(tmp_path)


def test_a_model_takes_its_inputs_by_name_and_leaves_the_rest():
    tensors = {"ids": np.ones((2, 4), np.int64), "mask": np.ones((2, 4), np.int64)}
    assert feeds([IDS], tensors).keys() == {"ids"}


def test_a_single_tensor_feeds_a_single_input_whatever_they_are_called():
    x = np.ones((2, 4), np.int64)
    np.testing.assert_array_equal(feeds([IDS], {"image": x})["ids"], x)


WORDS = {name: np.full((2, 4), number, np.int64) for number, name in enumerate(TEXT)}


@pytest.mark.parametrize(
    ("inputs", "sources"),
    [
        (["ids"], [0]),
        (["ids", "attention_mask"], [0, 1]),
        (["attention_mask", "ids"], [1, 0]),
        (["input_ids", "attention_mask", "segments"], [0, 1, 2]),
    ],
)
def test_the_one_input_of_a_text_with_another_name_is_its_tokens_or_what_alone_is_left(inputs, sources):
    fed = feeds([TensorSpec(name, "int64", ("batch", 4)) for name in inputs], WORDS)
    assert list(fed) == inputs
    assert [int(array[0, 0]) for array in fed.values()] == sources


@pytest.mark.parametrize(
    ("inputs", "missed"), [(["a", "b"], "a"), (["input_ids", "other"], "other"), (["a", "b", "input_ids"], "a")]
)
def test_where_it_is_not_clear_what_an_input_is_the_choices_are_named(inputs, missed):
    wanted = f"nothing feeds the model's input '{missed}': there is input_ids, attention_mask, token_type_ids"
    with pytest.raises(DataError, match=wanted):
        feeds([TensorSpec(name, "int64", ("batch", 4)) for name in inputs], WORDS)


def test_what_cannot_be_tokens_is_not_taken_for_them():
    for spec in (TensorSpec("x", "float32", ("batch", 4)), TensorSpec("x", "int64", ("batch", 4, 1))):
        with pytest.raises(DataError, match="nothing feeds the model's input 'x'"):
            feeds([spec], WORDS)


def test_integers_are_narrowed_where_every_value_fits():
    narrow = TensorSpec("ids", "int8", ("batch", 4))
    assert feeds([narrow], {"ids": np.full((1, 4), 127, np.int64)})["ids"].dtype == np.int8
    with pytest.raises(DataError, match="goes up to 128, too large for int8"):
        feeds([narrow], {"ids": np.full((1, 4), 128, np.int64)})


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"a": np.ones((2, 4), np.int64), "b": np.ones((2, 4), np.int64)}, "nothing feeds the model's input 'ids'"),
        ({"ids": np.ones((2, 5), np.int64)}, r"'ids' would get int64 \[2, 5\], the model takes ids int64\[batch, 4\]"),
        ({"ids": np.ones((2, 4), np.float32)}, "would get float32"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(tensors, said):
    with pytest.raises(DataError, match=said):
        feeds([IDS], tensors, "sets")


def test_a_free_dimension_fits_any_size():
    assert fits(TensorSpec("x", "int64", ("batch", 128)), TensorSpec("y", "int32", ("n", "length")))
    assert not fits(TensorSpec("x", "int64", ("batch", 128)), TensorSpec("y", "int64", ("n", 64)))
    assert not fits(TensorSpec("x", "int64", ("batch", 128)), TensorSpec("y", "int64", ("n",)))
