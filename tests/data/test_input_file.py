from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edgeprune.data.encoded import Resize
from edgeprune.data.input_file import read_input
from edgeprune.data.pixels import Pixels
from edgeprune.errors import DataError
from edgeprune.tensor import TensorSpec

RGB = TensorSpec("x", "float32", ("batch", 3, 4, 5))
IDS = TensorSpec("ids", "int64", ("batch", 7))
HALF = Pixels((4, 5), 255, (0.5,) * 3, (0.5,) * 3)


def saved(path, array):
    np.save(path, array, allow_pickle=True)
    return path


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 4, 5)])
def test_a_tensor_is_taken_as_it_is_with_or_without_a_batch(tmp_path, shape):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    read = read_input(saved(tmp_path / "x.npy", x), [RGB], HALF)["x"]
    np.testing.assert_array_equal(read, x.reshape(-1, 3, 4, 5))


@pytest.mark.parametrize("shape", [(2, 4, 5, 3), (4, 5, 3)])
def test_8_bit_images_are_preprocessed(tmp_path, shape):
    images = np.full(shape, 255, np.uint8)
    read = read_input(saved(tmp_path / "x.npy", images), [RGB], HALF)["x"]
    assert read.shape[1:] == (3, 4, 5)
    np.testing.assert_allclose(read, 1.0)


def test_an_image_file_is_decoded(tmp_path):
    Image.new("RGB", (5, 4), (255, 0, 255)).save(tmp_path / "x.png")
    read = read_input(tmp_path / "x.png", [RGB], HALF)["x"]
    np.testing.assert_allclose(read[0, :, 0, 0], [1, -1, 1])


def test_several_inputs_come_by_name_and_others_are_left_aside(tmp_path):
    x, ids = np.zeros((2, 3, 4, 5), np.float32), np.ones((2, 7), np.int64)
    np.savez(tmp_path / "all.npz", x=x, ids=ids, y=np.zeros(2))
    read = read_input(tmp_path / "all.npz", [RGB, IDS], HALF, others=["y"])
    assert read.keys() == {"x", "ids"}
    np.testing.assert_array_equal(read["ids"], ids)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 3, 4, 6), np.float32), r"is float32 \[2, 3, 4, 6\]; the model takes float32 \[batch, 3, 4, 5\]"),
        (np.zeros((2, 3, 4, 5)), r"is float64 .*; the model takes float32"),
        (np.zeros((0, 3, 4, 5), np.float32), "the model takes float32"),
        (np.zeros(5, np.float32), "the model takes float32"),
        (np.full((1, 3, 4, 5), np.nan, np.float32), "not finite"),
        (np.zeros((4, 5, 1), np.uint8), r"or 8-bit images \[N, 4, 5, 3\]"),
        (np.zeros((0, 4, 5, 3), np.uint8), r"or 8-bit images \[N, 4, 5, 3\]"),
        (np.array([None]), "pickled Python objects"),
        (np.array(["text"]), r"is <U4 \[1\]; the model takes float32"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(tmp_path, array, said):
    with pytest.raises(DataError, match=said):
        read_input(saved(tmp_path / "x.npy", array), [RGB], HALF)


def test_images_brighter_than_the_model_knows_are_refused(tmp_path):
    digits = Pixels((8, 8), 16, (0.3,), (0.4,))
    spec = TensorSpec("x", "float32", ("batch", 1, 8, 8))
    file = saved(tmp_path / "x.npy", np.full((8, 8, 1), 255, np.uint8))
    with pytest.raises(DataError, match="pixels go up to 255; this model was made with images from 0 to 16"):
        read_input(file, [spec], digits)


def test_without_preprocessing_images_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"the model takes float32 \[batch, 3, 4, 5\]$"):
        read_input(saved(tmp_path / "x.npy", np.zeros((1, 4, 5, 3), np.uint8)), [RGB], None)


def test_a_batch_that_the_model_fixes_must_be_filled(tmp_path):
    spec = TensorSpec("x", "float32", (4, 2))
    assert read_input(saved(tmp_path / "x.npy", np.zeros((8, 2), np.float32)), [spec], None)["x"].shape == (8, 2)
    with pytest.raises(DataError, match="the model takes"):
        read_input(saved(tmp_path / "x.npy", np.zeros((6, 2), np.float32)), [spec], None)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros((2, 3, 4, 5), np.float32)}, r"holds \['x'\]; the model takes \['x', 'ids'\]"),
        ({"x": np.zeros(1), "ids": np.zeros(1), "z": np.zeros(1)}, r"holds \['ids', 'x', 'z'\]"),
        ({"x": np.zeros((2, 3, 4, 5), np.float32), "ids": np.zeros((3, 7), np.int64)}, "2 of x, 3 of ids"),
        ({"x": np.array([None]), "ids": np.zeros((3, 7), np.int64)}, "pickled Python objects"),
    ],
)
def test_names_that_do_not_fit_are_refused(tmp_path, arrays, said):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=said):
        read_input(tmp_path / "x.npz", [RGB, IDS], HALF)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.png"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nonsense", b"\x93NUMPY\x01\x00\x46\x00{", b"\x89PNG\r\n\x1a\n"])
def test_bytes_that_are_no_such_file_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=str(tmp_path)):
        read_input(tmp_path / name, [RGB], HALF)


def test_a_file_cut_short_is_refused(tmp_path):
    whole = saved(tmp_path / "whole.npy", np.zeros((2, 3, 4, 5), np.float32)).read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:-7])
    with pytest.raises(DataError, match=r"cannot be read as NumPy's \.npy"):
        read_input(tmp_path / "x.npy", [RGB], HALF)


def test_the_ending_must_be_the_right_one(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    with pytest.raises(DataError, match=r"call it \.npz"):
        read_input(tmp_path / "x.npy", [RGB], HALF)
    saved(tmp_path / "y.npy", np.zeros(3)).rename(tmp_path / "y.npz")
    with pytest.raises(DataError, match=r"call it \.npy"):
        read_input(tmp_path / "y.npz", [RGB], HALF)


def test_one_array_is_not_enough_for_two_inputs(tmp_path):
    with pytest.raises(DataError, match=r"give an \.npz that holds x, ids"):
        read_input(saved(tmp_path / "x.npy", np.zeros(3)), [RGB, IDS], HALF)


def test_an_image_of_another_size_is_brought_to_that_of_the_model(tmp_path):
    Image.new("L", (50, 30), 255).save(tmp_path / "x.png")
    last = Pixels((4, 4), 255, (0.5,) * 3, (0.5,) * 3, Resize(5, 4), "NHWC")
    read = read_input(tmp_path / "x.png", last.specs, last)["image"]
    np.testing.assert_array_equal(read, np.ones((1, 4, 4, 3), np.float32))
    with pytest.raises(DataError, match=r"is uint8 \[1, 30, 50, 1\]; .* or 8-bit images \[N, 4, 5, 3\]"):
        read_input(tmp_path / "x.png", [RGB], HALF)


def text_model(length):
    return [TensorSpec(name, "int64", ("batch", length)) for name in ("input_ids", "attention_mask")]


def test_text_goes_line_by_line_through_the_tokenizer(tmp_path, word_piece):
    (tmp_path / "x.txt").write_text("the film\n\nwas good\n")
    given = word_piece("text", length=8)
    read = read_input(tmp_path / "x.txt", text_model(8), given)
    assert read.keys() == {"input_ids", "attention_mask"}
    assert read["attention_mask"].sum(axis=1).tolist() == [4, 2, 4]  # an empty line is an empty text
    other = [TensorSpec("ids", "int64", ("batch", 8))]  # the only input gets the tokens, whatever it is called
    np.testing.assert_array_equal(read_input(tmp_path / "x.txt", other, given)["ids"], read["input_ids"])
    with pytest.raises(DataError, match="nothing feeds the model's input 'more'"):
        read_input(tmp_path / "x.txt", [*text_model(8), TensorSpec("more", "float32", ("batch", 3))], given)
    with pytest.raises(DataError, match=r"x\.txt: 'input_ids' would get int64 \[3, 8\], the model takes"):
        read_input(tmp_path / "x.txt", text_model(9), given)


def test_pairs_have_a_tab_between_them(tmp_path, word_piece):
    (tmp_path / "x.txt").write_text("who\tthe film\nwho\tit\n")
    given = word_piece("question", "context", length=9)
    assert read_input(tmp_path / "x.txt", text_model(9), given)["attention_mask"].sum(axis=1).tolist() == [6, 5]
    (tmp_path / "x.txt").write_text("who\tthe film\nwho wrote it\n")
    with pytest.raises(DataError, match=r"x\.txt line 2: 1 texts; question <tab> context is needed"):
        read_input(tmp_path / "x.txt", text_model(9), given)


@pytest.mark.parametrize(("content", "said"), [(b"", "is empty"), (b"\xff\xfe", "no text in UTF-8")])
def test_a_file_without_text_is_refused(tmp_path, word_piece, content, said):
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_input(tmp_path / "x.txt", text_model(8), word_piece("text", length=8))


def test_text_where_numbers_are_due_and_the_reverse_are_refused(tmp_path, word_piece):
    (tmp_path / "x.txt").write_text("the film\n")
    with pytest.raises(DataError, match="is text; the model takes 8-bit images or numbers: x"):
        read_input(tmp_path / "x.txt", [RGB], HALF)
    with pytest.raises(DataError, match="is text; the model takes numbers: x"):
        read_input(tmp_path / "x.txt", [RGB], None)
    given = word_piece("text", length=8)
    Image.new("RGB", (5, 4)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"the model takes text: give a \.txt with text in each line"):
        read_input(tmp_path / "x.png", text_model(8), given)
    with pytest.raises(DataError, match=r"is <U4 \[1\]; the model takes int64 \[batch, 8\], or a \.txt with text"):
        read_input(saved(tmp_path / "x.npy", np.array(["text"])), text_model(8)[:1], given)


def test_tokens_may_be_given_as_numbers(tmp_path, word_piece):
    given = word_piece("text", length=8)
    ids = np.ones((2, 8), np.int64)
    np.savez(tmp_path / "x.npz", input_ids=ids, attention_mask=ids)
    assert read_input(tmp_path / "x.npz", text_model(8), given)["input_ids"].tolist() == ids.tolist()


def test_one_sample_may_come_without_a_batch(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 4, 5), np.float32), ids=np.ones(7, np.int64))
    read = read_input(tmp_path / "x.npz", [RGB, IDS], None)
    assert {name: array.shape for name, array in read.items()} == {"x": (1, 3, 4, 5), "ids": (1, 7)}


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_input(tmp_path, [RGB], HALF)
