from __future__ import annotations

import numpy as np
import pytest

from edgeprune.data.datasets import describe, digests, read
from edgeprune.data.splits import resolve_splits
from edgeprune.errors import DataError
from edgeprune.recipe import DataPart, Rows
from edgeprune.tensor import TensorSpec

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 3, 4)).astype(np.float32)
IDS = RANDOM.integers(0, 9, (60, 5))
CLASSES = RANDOM.integers(0, 3, 60)


def write(folder, name="train", rows=slice(None), **more):
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"x": X, "ids": IDS, **more}
    np.savez(folder / f"{name}.npz", **{key: array[rows] for key, array in arrays.items()})


def test_arrays_are_given_unchanged_by_the_models_own_names(tmp_path):
    write(tmp_path / "set", label=CLASSES)
    splits = resolve_splits(DataPart(name=str(tmp_path / "set")), trains=True)
    assert splits.info.task == "classification"
    assert splits.info.classes == ("0", "1", "2")
    assert splits.preprocess.specs == (
        TensorSpec("x", "float32", ("batch", 3, 4)),
        TensorSpec("ids", "int64", ("batch", 5)),
    )
    start, stop = splits.rows["report"].start, splits.rows["report"].stop
    given = splits.preprocess(splits.samples("report").columns)
    np.testing.assert_array_equal(given["x"], X[start:stop])
    np.testing.assert_array_equal(given["ids"], IDS[start:stop])
    np.testing.assert_array_equal(splits.labels("report"), CLASSES[start:stop])


def test_a_split_is_called_as_its_files_and_goes_over_all_of_them(tmp_path):
    write(tmp_path, "train-00000-of-00002", slice(0, 25), labels=CLASSES)
    write(tmp_path, "train-00001-of-00002", slice(25, 40), labels=CLASSES)
    write(tmp_path, "test", slice(40, 60), labels=CLASSES)
    info = describe(str(tmp_path))
    assert info.splits["report"] == Rows(source=f"{tmp_path}:test")
    rows = Rows(source=f"{tmp_path}:train", start=20, stop=30)
    np.testing.assert_array_equal(read(rows, info).columns["x"], X[20:30])
    assert len(set(digests(rows, info))) == 10


def test_one_file_is_a_data_set_too(tmp_path):
    write(tmp_path, "some", label=CLASSES)
    info = describe(str(tmp_path / "some.npz"))
    sources = {rows.source for rows in info.splits.values()}
    assert sources == {f"{tmp_path}/some.npz:some"}
    assert len(read(info.splits["train"], info)) == 42


def test_without_labels_nothing_trains_and_the_rest_is_disjoint(tmp_path):
    write(tmp_path)
    splits = resolve_splits(DataPart(name=str(tmp_path)), trains=False)
    assert (splits.info.task, splits.info.metrics, splits.info.label) == ("none", (), None)
    ranges = {role: (rows.start, rows.stop) for role, rows in splits.rows.items()}
    assert ranges == {"calibrate": (0, 42), "select": (42, 51), "report": (51, 60)}
    assert splits.labels("report") is None


def test_three_rows_without_labels_are_enough_and_two_are_not(tmp_path):
    write(tmp_path / "a", rows=slice(3))
    assert {len(one) for one in resolve_splits(DataPart(name=str(tmp_path / "a")), trains=False).digests.values()} == {
        1
    }
    write(tmp_path / "b", rows=slice(2))
    with pytest.raises(DataError, match="2 samples in train are too few"):
        describe(str(tmp_path / "b"))


def test_labels_that_are_not_whole_ask_for_values(tmp_path):
    write(tmp_path, label=X[:, 0, 0])
    info = describe(str(tmp_path))
    assert (info.task, info.metrics, info.classes) == ("regression", ("pearson", "spearman"), ())
    np.testing.assert_array_equal(read(Rows(source=f"{tmp_path}:train"), info).labels, X[:, 0, 0])


def test_labels_of_several_numbers_are_kept_for_a_metric_of_the_users_own(tmp_path):
    write(tmp_path, label=X)
    info = describe(str(tmp_path))
    assert (info.task, info.metrics, info.label) == ("none", (), "label")
    np.testing.assert_array_equal(read(Rows(source=f"{tmp_path}:train"), info).labels, X)


def test_equal_numbers_are_equal_samples_however_large_they_are(tmp_path):
    large = np.zeros((12, 3000), np.float32)  # repr leaves the middle out
    large[np.arange(12), 1500] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0]
    np.savez(tmp_path / "x.npz", x=large)
    info = describe(str(tmp_path / "x.npz"))
    found = digests(Rows(source=f"{tmp_path}/x.npz:x"), info)
    assert len(set(found)) == 11
    assert found[0] == found[11]


def nan(folder):
    bad = X.copy()
    bad[7, 1, 1] = np.nan
    write(folder, x=bad)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: write(folder, y=X[:50]), r"train\.npz: as many rows are needed in every array: 60 of x"),
        (lambda folder: write(folder, y=np.array([None] * 60)), r"train\.npz: holds Python objects"),
        (lambda folder: write(folder, y=np.array(["text"] * 60)), r"train\.npz: 'y' is <U4: numbers are needed"),
        (lambda folder: write(folder, y=np.zeros((60, 0))), r"train\.npz: 'y' has the shape \[60, 0\]"),
        (lambda folder: write(folder, rows=slice(0)), r"train\.npz: 'x' has the shape \[0, 3, 4\]"),
        (nan, r"train\.npz: 'x' row 7: holds values that are not finite"),
        (lambda folder: write(folder, label=np.full(60, -1)), r"train\.npz row 0: label -1: this row is not labelled"),
        (lambda folder: write(folder, label=np.zeros(60, int)), "all samples are of one class"),
        (lambda folder: write(folder, label=np.sort(CLASSES)), "sorted by label"),
        (lambda folder: (write(folder), write(folder, "test", z=X)), r"train\.npz: other arrays than in .*test\.npz"),
        (lambda folder: (write(folder), write(folder, "val"), write(folder, "x")), None),
        (lambda folder: (write(folder, "a"), write(folder, "b")), "one must be called train"),
        (lambda folder: (folder / "train.npz").write_bytes(b"PK\x03\x04"), r"train\.npz: cannot be read as \.npz"),
        (lambda folder: np.savez(folder / "train.npz", label=CLASSES), "holds labels only"),
    ],
)
def test_files_that_cannot_be_used_are_told_with_the_array(tmp_path, make, said):
    make(tmp_path)
    if said is None:
        describe(str(tmp_path))
        return
    with pytest.raises(DataError, match=said) as caught:
        describe(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_one_array_is_no_archive(tmp_path):
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    with pytest.raises(DataError, match=r"call it \.npy"):
        describe(str(tmp_path / "x.npz"))
    with pytest.raises(DataError, match=r"no such folder, and no \.npz file"):
        describe(str(tmp_path / "y.npz"))
