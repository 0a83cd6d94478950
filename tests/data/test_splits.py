from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from edgeprune.data.pixels import Pixels
from edgeprune.data.splits import resolve_splits
from edgeprune.errors import ConfigError, DataError
from edgeprune.recipe import DataPart, Normalize, Rows


def rows(start, stop):
    return Rows(source="digits:all", start=start, stop=stop)


def test_the_digits_own_splits_are_disjoint_where_they_must_be():
    splits = resolve_splits(DataPart(), trains=True)
    assert splits.reported == ("select", "report")
    assert not set(splits.digests["report"]) & set(splits.digests["train"])
    assert len(splits.digests["report"]) == 400


def test_rows_that_are_chosen_on_and_reported_are_named():
    part = DataPart(select=rows(1000, 1200), report=rows(1199, 1400))
    with pytest.raises(DataError, match=r"splits report .*and select .* share rows from 1199 on"):
        resolve_splits(part, trains=False)


def test_training_on_what_is_reported_is_refused_where_weights_are_trained():
    part = DataPart(train=rows(0, 1797))
    with pytest.raises(DataError, match=r"splits train .*and report .* share rows"):
        resolve_splits(part, trains=True)
    resolve_splits(part, trains=False)


def test_calibrating_on_training_rows_is_allowed():
    assert resolve_splits(DataPart(calibrate=rows(0, 64)), trains=True).rows["calibrate"].stop == 64


def test_a_calibration_set_of_other_data_is_refused(tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("name: other\ndata: mnist\nrows: {source: 'digits:all', stop: 64}\nsha256: ''\n")
    with pytest.raises(DataError, match="is of mnist, the data are digits"):
        resolve_splits(DataPart(calibration=str(other)), trains=False)


def test_a_normalization_of_other_channels_is_refused():
    part = DataPart(normalize=Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    with pytest.raises(ConfigError, match="digits has 1 channels"):
        resolve_splits(part, trains=False)


def test_what_a_bundle_does_to_samples_goes_before_what_its_recipe_said(tmp_path):
    own = Pixels((8, 8), 16, (0.1,), (0.2,))
    gone = DataPart(preprocess=tmp_path / "gone.yaml")
    assert resolve_splits(gone, trains=False, preprocess=own).preprocess == own
    with pytest.raises(ConfigError, match="cannot be read"):
        resolve_splits(gone, trains=False)


def test_the_fingerprint_of_a_split_is_that_of_its_samples_in_order():
    one = resolve_splits(DataPart(report=rows(1500, 1600)), trains=False)
    same = resolve_splits(DataPart(report=rows(1500, 1600)), trains=False)
    other = resolve_splits(DataPart(report=rows(1501, 1601)), trains=False)
    assert one.fingerprint("report") == same.fingerprint("report") != other.fingerprint("report")


def sentences(folder, count=100, copies=0):
    """Synthetic sentences with two labels; the last `copies`, which report, stand in front, too."""
    texts = [f"film {number}" for number in range(count)]
    texts[:copies] = texts[count - copies :]
    labels = [number % 2 for number in range(count)]
    folder.mkdir()
    pq.write_table(pa.table({"sentence": texts, "label": labels}), folder / "train.parquet")
    return DataPart(name=str(folder), vocabulary=folder.parent / "vocab.txt")


@pytest.fixture
def words(tmp_path, vocabulary):
    (tmp_path / "vocab.txt").write_bytes(vocabulary.read_bytes())
    return tmp_path / "words"


def test_what_is_reported_is_not_trained_on_though_it_is_stored_twice(words):
    splits = resolve_splits(sentences(words, copies=2), trains=True)
    assert splits.left_out == {"calibrate": {0, 1}, "train": {0, 1}}
    assert splits.record()["train"].left_out == 2
    found = np.concatenate([part.columns["sentence"] for part in splits.batches("train", 16)])
    assert found.tolist() == [f"film {number}" for number in range(2, 70)]
    assert splits.labels("train").tolist() == splits.samples("train").labels.tolist()
    assert splits.first("train", 3).columns["sentence"].tolist() == ["film 2", "film 3", "film 4"]


def test_many_copies_are_no_accident(words):
    with pytest.raises(DataError, match=r"split (calibrate|train): 10 of its 70 samples, first number 0"):
        resolve_splits(sentences(words, copies=10), trains=True)


def test_the_shared_reviews_come_mixed_and_without_copies_between_training_and_test(shared_data, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_DATA", str(shared_data))
    splits = resolve_splits(DataPart(name="imdb"), trains=True)
    assert {name: len(found) for name, found in splits.digests.items()} == {
        "train": 22_377,
        "calibrate": 508,
        "select": 2_485,
        "report": 25_000,
    }
    assert not set(splits.digests["report"]) & {*splits.digests["train"], *splits.digests["select"]}
    assert splits.record()["train"].left_out == 123
    for name in ("calibrate", "select", "report"):
        assert splits.labels(name).mean() == pytest.approx(0.5, abs=0.05)
    assert splits.preprocess(splits.first("calibrate", 2).columns)["input_ids"].shape == (2, 200)


def test_the_shared_questions_are_at_hand_without_rows_to_train_on(shared_data, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_DATA", str(shared_data))
    splits = resolve_splits(DataPart(name="squad"), trains=False)
    assert {name: len(found) for name, found in splits.digests.items()} == {
        "calibrate": 256,
        "select": 1000,
        "report": 2509,
    }
    with pytest.raises(DataError, match="squad: no rows for train are at hand"):
        splits.samples("train")
    with pytest.raises(DataError, match="no stored split 'train'"):
        resolve_splits(DataPart(name="squad"), trains=True)


def test_the_shared_sentences_are_those_that_are_published(shared_data, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_DATA", str(shared_data))
    splits = resolve_splits(DataPart(name="glue:sst2"), trains=True)
    assert len(splits.digests["report"]) == 872
    assert np.bincount(splits.labels("report")).tolist() == [428, 444]
    assert splits.rows["select"].stop == 67_349


def test_synthetic_rows_of_imagenet_are_brought_to_the_size_of_its_networks(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_DATA", str(tmp_path))
    random, encoded = np.random.default_rng(0), []
    for row in range(12):
        buffer = io.BytesIO()
        size = (random.integers(200, 500), random.integers(200, 500), 3)
        Image.fromarray(random.integers(0, 256, size, np.uint8)).convert("RGB" if row else "L").save(buffer, "JPEG")
        encoded.append({"bytes": buffer.getvalue(), "path": f"{row}.JPEG"})
    (tmp_path / "imagenet").mkdir()
    table = pa.table({"image": encoded, "label": [row * 90 for row in range(12)]})
    pq.write_table(table, tmp_path / "imagenet" / "validation-00000-of-00001.parquet")
    source = "imagenet:validation"
    part = DataPart(
        name="imagenet",
        calibrate=Rows(source=source, stop=4),
        select=Rows(source=source, start=4, stop=8),
        report=Rows(source=source, start=8),
    )
    splits = resolve_splits(part, trains=False)
    images = splits.preprocess(splits.samples("calibrate").columns)["image"]
    assert images.shape == (4, 3, 224, 224)
    assert images.mean() == pytest.approx(0, abs=0.5)  # even noise is about as bright as a photograph
    np.testing.assert_array_equal(splits.labels("report"), [720, 810, 900, 990])


def test_a_split_without_its_stored_split_is_told_and_no_folder_is_searched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"rows train\[0:8\]: a source is written <data set or folder>:<stored split>"):
        resolve_splits(DataPart(calibrate=Rows(source="train", stop=8)), trains=False)
