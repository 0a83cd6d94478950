from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from edgeprune.data.encoded import Resize, Stretch
from edgeprune.data.preparing import described, preprocessing
from edgeprune.data.splits import resolve_splits
from edgeprune.errors import ConfigError, DataError
from edgeprune.recipe import DataPart, Normalize


def said(tmp_path, text):
    file = tmp_path / "how.yaml"
    file.write_text(text)
    return file


def prepared(part):
    return preprocessing(part, described(part))


@pytest.fixture
def pictures(tmp_path):
    """Images of several sizes in two classes."""
    random = np.random.default_rng(0)
    for row in range(20):
        pixels = random.integers(0, 256, (20 + row, 30, 3), np.uint8)
        file = tmp_path / "pictures" / "ab"[row % 2] / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return tmp_path / "pictures"


@pytest.fixture
def reviews(tmp_path):
    (tmp_path / "reviews").mkdir()
    table = pa.table({"text": [f"film {row}" for row in range(40)], "label": [row % 2 for row in range(40)]})
    pq.write_table(table, tmp_path / "reviews" / "train.parquet")
    return tmp_path / "reviews"


def test_images_of_several_sizes_need_to_be_told_one(tmp_path, pictures):
    part = DataPart(name=str(pictures))
    with pytest.raises(DataError, match="or say how with --preprocess"):
        resolve_splits(part, trains=True).samples("train")
    for text, resize, size in (
        ("resize: {shorter: 18, crop: 16}", Resize(18, 16), (16, 16)),
        ("size: [12, 14]", Stretch(12, 14), (12, 14)),
    ):
        splits = resolve_splits(part.model_copy(update={"preprocess": said(tmp_path, text)}), trains=True)
        assert splits.preprocess.resize == resize
        assert splits.preprocess.specs[0].shape == ("batch", 3, *size)
        assert splits.preprocess(splits.samples("report").columns)["image"].shape[2:] == size
        assert next(splits.batches("train", 5)).columns["image"].shape == (5, *size, 3)


@pytest.mark.parametrize(
    ("text", "channels"),
    [("size: [8, 8]", 1), ("size: [8, 8]\nchannels: RGB", 3), ("size: [8, 8]\nmean: [0.4, 0.5, 0.6]", 3)],
)
def test_grey_images_stay_grey_unless_something_said_is_of_colours(tmp_path, pictures, text, channels):
    for file in pictures.rglob("*.png"):
        Image.open(file).convert("L").save(file)
    splits = resolve_splits(DataPart(name=str(pictures), preprocess=said(tmp_path, text)), trains=True)
    assert splits.preprocess.specs[0].shape == ("batch", channels, 8, 8)
    assert splits.samples("train").columns["image"].shape[1:] == (8, 8, channels)
    again = resolve_splits(DataPart(name=str(pictures)), trains=False, preprocess=splits.preprocess, judges_only=True)
    assert again.samples("report").columns["image"].shape[1:] == (8, 8, channels)


def test_shorter_windows_share_fewer_tokens_unless_it_is_said_how_many(tmp_path, vocabulary):
    part = DataPart(name="squad", vocabulary=vocabulary)
    for length, stride in ((None, 128), (600, 128), (384, 128), (96, 32), (64, 21)):
        assert prepared(part.model_copy(update={"length": length})).text.stride == stride
    file = said(tmp_path, "stride: 48")
    assert prepared(part.model_copy(update={"length": 64, "preprocess": file})).text.stride == 48
    with pytest.raises(ConfigError, match="stride 48: at least 0 and less than the length 32 is needed"):
        prepared(part.model_copy(update={"length": 32, "preprocess": file}))


def test_everything_that_is_done_to_pixels_can_be_said(tmp_path, pictures):
    text = "{resize: {shorter: 9, crop: 8}, levels: 1, mean: [1, 2, 3], std: [4, 5, 6], layout: NHWC, channels: BGR}"
    found = prepared(DataPart(name=str(pictures), preprocess=said(tmp_path, text)))
    assert (found.levels, found.mean, found.std) == (1, (1, 2, 3), (4, 5, 6))
    assert found.specs[0].shape == ("batch", 8, 8, 3)
    assert found.to_json()["channels"] == "BGR"


def test_a_recipe_goes_before_its_file(tmp_path, reviews, vocabulary):
    file = said(tmp_path, "mean: [0.1]\nstd: [0.2]")
    part = DataPart(preprocess=file, normalize=Normalize(mean=(0.3,), std=(0.4,)))
    assert prepared(part).mean == (0.3,)
    (tmp_path / "words.txt").write_bytes(vocabulary.read_bytes())
    text = said(tmp_path, "{length: 16, keep: tail, vocabulary: words.txt, lowercase: false}")
    part = DataPart(name=str(reviews), preprocess=text)
    assert (prepared(part).length, prepared(part).text.keep) == (16, "tail")  # the vocabulary lies beside the file
    assert prepared(part.model_copy(update={"length": 20})).length == 20
    with pytest.raises(DataError, match=r"gone\.txt: no such vocabulary"):
        prepared(part.model_copy(update={"vocabulary": tmp_path / "gone.txt"}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{size: [8, 8], resize: {shorter: 9, crop: 8}}", r"how\.yaml: size and resize: say one of them"),
        ("resize: {shorter: 8, crop: 9}", "the crop must lie within the image"),
        ("resize: {shorter: 8}", r"how\.yaml: resize.crop: field required"),
        ("layout: CHW", "layout: input should be 'NCHW' or 'NHWC'"),
        ("mena: [1]", r"unknown key 'mena': did you mean 'mean'\?"),
        ("size: [0, 8]", "greater than 0"),
        ("size: [8, 8]", "the built-in digits are 8x8"),
        ("mean: [1, 2]", "mean: digits has 1 channels, 2 values are given"),
        ("levels: 0", "must be positive"),
        ("channels: BGR", "channels BGR: the images have 1 channel"),
        ("length: 8", "length: does not apply to digits, which holds images"),
        ("keep: tail", "keep: does not apply"),
        ("[1]", "expected `key: value` lines"),
    ],
)
def test_what_a_file_says_of_images_wrongly_is_told(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        prepared(DataPart(preprocess=said(tmp_path, text)))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"normalize": Normalize(mean=(0.5,), std=(0.5,))}, "mean: does not apply to .*, which holds text"),
        ({"length": 3}, None),
    ],
)
def test_what_a_recipe_says_must_apply_to_text(reviews, vocabulary, more, message):
    part = DataPart(name=str(reviews), vocabulary=vocabulary, **more)
    if message is None:
        assert prepared(part).length == 3
        return
    with pytest.raises(ConfigError, match=message):
        prepared(part)


def test_nothing_is_done_to_arrays(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((9, 2), np.float32))
    with pytest.raises(ConfigError, match=r"length: does not apply to .*, which holds a model's inputs as they are"):
        prepared(DataPart(name=str(tmp_path / "x.npz"), length=8))


def test_a_recipe_may_ask_something_else(reviews, vocabulary):
    part = DataPart(name=str(reviews), vocabulary=vocabulary)
    values = described(part.model_copy(update={"task": "regression"}))
    assert (values.task, values.metrics, values.classes) == ("regression", ("pearson", "spearman"), ())
    splits = resolve_splits(part.model_copy(update={"task": "regression"}), trains=True)
    assert splits.labels("report").dtype == np.float32
    nothing = described(part.model_copy(update={"task": "none"}))
    assert (nothing.metrics, nothing.label) == ((), "label")


@pytest.mark.parametrize(
    ("name", "task", "why"),
    [
        ("glue:stsb", "classification", "its labels are no classes"),
        ("imdb", "question-answering", "it holds no questions"),
        ("squad", "regression", "its answers are pieces of a text"),
    ],
)
def test_what_a_data_set_cannot_be_asked_is_refused(name, task, why):
    with pytest.raises(ConfigError, match=f"task {task}: {name} cannot be asked that: {why}"):
        described(DataPart(name=name, task=task))
