from __future__ import annotations

import io
import os
import subprocess
import sys
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from edgeprune.data.datasets import KNOWN, describe, digests, read
from edgeprune.data.encoded import Resize, Stretch, decode
from edgeprune.data.pixels import Pixels
from edgeprune.data.wordpiece import Text
from edgeprune.errors import CorruptError, DataError, UnknownNameError
from edgeprune.judge import METRICS
from edgeprune.recipe import Rows

DIGITS = read(Rows(source="digits:all"), describe("digits"))
IMAGES = DIGITS.columns["image"]
MNIST = describe("mnist")


def images(rows, info, **how):
    return read(rows, info, **how).columns["image"]


def png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8).squeeze()).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(file, rows=slice(0, 60), *, column="image", form="struct", metadata=None, labels=None):
    """Embedded digits as a Parquet file, in small row groups."""
    file.parent.mkdir(parents=True, exist_ok=True)
    encoded = [png(image) for image in IMAGES[rows]]
    stored = pa.array([{"bytes": image, "path": None} if form == "struct" else image for image in encoded])
    labels = DIGITS.labels[rows] if labels is None else labels
    table = pa.table({"idx": range(len(encoded)), column: stored, "label": labels})
    pq.write_table(table.replace_schema_metadata(metadata), file, row_group_size=16)


def write_images(folder, rows=range(60), split=""):
    for row in rows:
        file = folder / split / f"digit-{DIGITS.labels[row] % 2}" / f"{row:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(IMAGES[row]))


def test_the_digits_come_in_their_order_and_all_classes_are_in_every_split():
    assert IMAGES.shape == (1797, 8, 8, 1)
    assert IMAGES.max() == 16
    assert DIGITS.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    for rows in describe("digits").splits.values():
        assert len(np.unique(read(rows, describe("digits")).labels)) == 10


def test_no_sample_of_the_digits_judges_twice_or_is_trained_on_and_judged_by():
    splits = {role: set(digests(rows, describe("digits"))) for role, rows in describe("digits").splits.items()}
    assert {role: len(found) for role, found in splits.items()} == {
        "train": 1097,
        "calibrate": 256,
        "select": 300,
        "report": 400,
    }
    for a, b in combinations(splits, 2):
        assert not splits[a] & splits[b] or {a, b} == {"train", "calibrate"}


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar10_jpeg75"])
def test_the_shared_data_have_no_exact_duplicates_between_splits(shared_data, name):
    splits = {role: digests(rows, describe(name), root=shared_data) for role, rows in describe(name).splits.items()}
    for found in splits.values():
        assert len(set(found)) == len(found)
    for a, b in combinations(splits, 2):
        assert not set(splits[a]) & set(splits[b]) or {a, b} == {"train", "calibrate"}


def test_the_shared_cifar_test_images_are_decoded(shared_data):
    cifar = describe("cifar10")
    lossless = read(cifar.splits["test"], cifar, root=shared_data)
    lossy = read(Rows(source="cifar10_jpeg75:test", stop=1000), cifar, root=shared_data)
    pixels = lossless.columns["image"].astype(float)
    assert pixels.shape == (1000, 32, 32, 3)
    assert np.bincount(lossless.labels).tolist() == [103, 89, 100, 103, 90, 86, 112, 102, 106, 109]
    assert lossless.labels.tolist() == lossy.labels.tolist()
    assert np.abs(pixels - lossy.columns["image"]).mean() == pytest.approx(5.6, abs=0.3)  # decoders differ


def test_the_shared_mnist_has_the_published_mean(shared_data):
    pixels = images(Rows(source="mnist:train"), MNIST, root=shared_data)
    assert pixels.mean() / 255 == pytest.approx(0.13066, abs=1e-5)
    assert pixels.std() / 255 == pytest.approx(0.30811, abs=1e-5)


@pytest.mark.parametrize("info", KNOWN.values(), ids=lambda info: info.name)
def test_what_is_known_of_a_data_set_fits_together(info):
    assert describe(info.name) is info
    assert {"calibrate", "select", "report"} <= set(info.splits)
    assert set(info.metrics) <= set(METRICS)
    assert bool(info.classes) == (info.task == "classification")
    stated = {Pixels: ("image",), Text: info.columns}[type(info.preprocess)]
    assert info.columns == stated


@pytest.mark.parametrize(("column", "form"), [("image", "struct"), ("img", "struct"), ("image", "bytes")])
def test_rows_of_parquet_files_are_read_across_files_and_row_groups(tmp_path, column, form):
    for part, rows in enumerate([slice(0, 40), slice(40, 60)]):
        file = tmp_path / "mnist" / "plain_text" / f"train-{part:05}-of-00002.parquet"
        write_parquet(file, rows, column=column, form=form)
    rows = Rows(source="mnist:train", start=10, stop=51)
    samples = read(rows, MNIST, root=tmp_path)
    np.testing.assert_array_equal(samples.columns["image"], IMAGES[10:51])
    np.testing.assert_array_equal(samples.labels, DIGITS.labels[10:51])
    assert digests(rows, MNIST, root=tmp_path) == digests(Rows(source="mnist:train"), MNIST, root=tmp_path)[10:51]


def test_a_digest_is_of_the_image_and_its_label(tmp_path):
    write_parquet(tmp_path / "a.parquet")
    write_parquet(tmp_path / "b.parquet", labels=[1, *DIGITS.labels[1:60]])
    a, b = (digests(Rows(source=f"{tmp_path}:{name}"), MNIST) for name in "ab")
    assert a[0] != b[0]
    assert a[1:] == b[1:]


def test_a_parquet_folder_is_described_from_its_files(tmp_path):
    names = b'{"info": {"features": {"label": {"names": ["a","b","c","d","e","f","g","h","i","j"]}}}}'
    write_parquet(tmp_path / "train.parquet", slice(0, 100), metadata={b"huggingface": names})
    write_parquet(tmp_path / "test.parquet", slice(100, 130))
    info = describe(str(tmp_path))
    assert info.classes == tuple("abcdefghij")
    assert info.preprocess.shape == (8, 8, 1)
    assert {role: (rows.source.rpartition(":")[2], rows.start, rows.stop) for role, rows in info.splits.items()} == {
        "train": ("train", 0, 85),
        "calibrate": ("train", 0, 85),
        "select": ("train", 85, 100),
        "report": ("test", 0, None),
    }
    assert len(read(info.splits["report"], info)) == 30


def test_an_image_folder_is_described_and_read_whatever_the_order_of_its_files(tmp_path):
    write_images(tmp_path / "a", range(60))
    write_images(tmp_path / "b", reversed(range(60)))
    a, b = (describe(str(tmp_path / name)) for name in "ab")
    assert a.classes == ("digit-0", "digit-1")
    assert a.preprocess.shape == (8, 8, 1)
    assert a.splits["train"].stop == 42
    assert digests(a.splits["train"], a) == digests(b.splits["train"], b)
    samples = read(a.splits["report"], a)
    assert samples.columns["image"].shape == (9, 8, 8, 1)
    assert set(samples.labels) == {0, 1}


def test_an_image_folder_may_have_splits(tmp_path):
    for split, rows in {"train": range(40), "val": range(40, 60), "test": range(60, 90)}.items():
        write_images(tmp_path, rows, split)
    info = describe(str(tmp_path))
    sizes = {role: len(read(rows, info)) for role, rows in info.splits.items()}
    assert sizes == {"train": 40, "calibrate": 40, "select": 20, "report": 30}


def empty(folder):
    folder.mkdir(exist_ok=True)


def one_class(folder):
    write_images(folder, np.flatnonzero(DIGITS.labels == 3)[:20])


def stray_image(folder):
    write_images(folder)
    (folder / "stray.png").write_bytes(png(IMAGES[0]))


def not_an_image(folder):
    write_images(folder)
    for file in folder.rglob("*.png"):
        file.write_bytes(b"GIF87a, or so it says")


def truncated_image(folder):
    write_images(folder)
    for file in folder.rglob("*.png"):
        file.write_bytes(file.read_bytes()[:60])


def transparent(folder):
    write_images(folder)
    for file in folder.rglob("*.png"):
        file.write_bytes(png(np.zeros((8, 8, 4))))


def sorted_by_label(folder):
    order = np.argsort(DIGITS.labels, kind="stable")
    write_parquet(folder / "train.parquet", order)


def too_few(folder):
    write_images(folder, range(2))


def hidden_labels(folder):
    write_parquet(folder / "train.parquet", labels=[-1] * 60)


def missing_label(folder):
    write_parquet(folder / "train.parquet", labels=pa.array([None, *DIGITS.labels[1:60]]))


def no_label_column(folder):
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"image": [b""]}), folder / "train.parquet")


def splits_without_train(folder):
    for split in ("left", "right"):
        write_images(folder, range(20), split)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (empty, r"no images and no Parquet files: expected .*<class>"),
        (one_class, "all samples are of one class"),
        (stray_image, r"stray\.png: not where an image is looked for"),
        (not_an_image, r"\.png: not an image that can be decoded"),
        (truncated_image, r"\.png: not an image that can be decoded"),
        (transparent, r"\.png: image mode RGBA"),
        (sorted_by_label, "the rows of train are sorted by label: shuffle them"),
        (too_few, "too few"),
        (hidden_labels, r"train\.parquet row 0: label -1"),
        (missing_label, r"train\.parquet row 0: label None is no integer"),
        (no_label_column, r"train\.parquet: has the columns image: 'label' is needed"),
        (splits_without_train, "one must be called train"),
    ],
)
def test_a_folder_that_cannot_be_used_is_told_with_the_file(tmp_path, make, message):
    make(tmp_path / "data")
    with pytest.raises(DataError, match=message) as caught:
        describe(str(tmp_path / "data"))
    assert "\n" not in str(caught.value)


def test_images_of_another_size_are_told_with_both_files(tmp_path):
    write_images(tmp_path)
    odd = next(tmp_path.rglob("*.png"))
    odd.write_bytes(png(np.zeros((9, 8))))
    with pytest.raises(DataError, match=r"8x8 grey.*9x8 grey|9x8 grey.*8x8 grey"):
        read(Rows(source=f"{tmp_path}:all"), MNIST)


@pytest.mark.parametrize(("resize", "shape"), [(Resize(9, 8), (8, 8, 3)), (Stretch(6, 10), (6, 10, 3))])
def test_images_of_several_sizes_and_modes_are_brought_to_one(tmp_path, resize, shape):
    write_images(tmp_path)
    for size, file in zip((9, 20, 33), sorted(tmp_path.rglob("*.png")), strict=False):
        file.write_bytes(png(np.full((size, 12, 4), 200)))
    info = describe(str(tmp_path), resize=resize, channels=3)
    assert info.preprocess.shape == shape
    pixels = images(Rows(source=f"{tmp_path}:all"), info, resize=resize)
    assert pixels.shape == (60, *shape)
    assert (pixels == 200).all(axis=(1, 2, 3)).sum() == 3


def test_grey_images_stay_grey_in_another_size_and_colours_among_them_are_told(tmp_path):
    write_images(tmp_path)
    info = describe(str(tmp_path), resize=Resize(4, 4))
    assert info.preprocess.shape == (4, 4, 1)
    assert images(Rows(source=f"{tmp_path}:all"), info, resize=Resize(4, 4)).shape == (60, 4, 4, 1)
    odd = sorted(tmp_path.rglob("*.png"))[7]
    odd.write_bytes(png(np.zeros((9, 8, 3))))
    with pytest.raises(DataError, match=rf"{odd.name}: is RGB, others are grey: .* channels: RGB"):
        images(Rows(source=f"{tmp_path}:all"), info, resize=Resize(4, 4))


def test_the_middle_of_an_image_stays(tmp_path):
    left_half_dark = np.zeros((10, 20, 3))
    left_half_dark[:, 10:] = 255
    pixels = decode([png(left_half_dark)], ["x"], Resize(10, 10))[0]
    np.testing.assert_array_equal(pixels, left_half_dark[:, 5:15])


def test_a_damaged_parquet_file_is_named(tmp_path):
    write_parquet(tmp_path / "train.parquet")
    content = (tmp_path / "train.parquet").read_bytes()
    (tmp_path / "train.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptError, match=r"train\.parquet: damaged or not Parquet"):
        describe(str(tmp_path))


def test_a_row_without_bytes_is_named(tmp_path):
    table = pa.table({"image": [{"bytes": png(IMAGES[0])}, {"bytes": None}], "label": [0, 1]})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet row 1: holds no image bytes"):
        read(Rows(source=f"{tmp_path}:train"), MNIST)


@pytest.mark.parametrize(
    ("source", "start", "stop", "message"),
    [
        ("digits:all", 0, 1798, "digits:all has 1797 rows"),
        ("digits:all", 5, 5, "none or not all"),
        ("digits", 0, 5, "a source is written"),
        ("mnist:train", 0, 61, "mnist:train has 60 rows"),
        ("mnist:validation", 0, 1, "no stored split 'validation'; there are train"),
        ("cifar10:train", 0, 1, "no folder .*cifar10"),
    ],
)
def test_rows_that_are_not_there_are_told(tmp_path, source, start, stop, message):
    write_parquet(tmp_path / "mnist" / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match=message):
        read(Rows(source=source, start=start, stop=stop), MNIST, root=tmp_path)


def test_a_name_that_is_nothing_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'cifar10'"):
        describe("cifar1")
    for name in ("sst2", "mnli", "qqp"):
        with pytest.raises(UnknownNameError, match=f"did you mean 'glue:{name}'"):
            describe(name)
    with pytest.raises(DataError, match="no such folder"):
        describe("no/such/folder")


def test_without_a_folder_and_without_the_hub_it_says_how_to_give_one():
    code = (
        "from edgeprune.data.datasets import KNOWN, read; from edgeprune.recipe import Rows\n"
        "from edgeprune.errors import MissingError\n"
        "for name in ('mnist', 'cifar10_jpeg75', 'imdb'):\n"
        "    try: read(Rows(source=name + ':test'), KNOWN[name])\n"
        "    except MissingError as error: print(error)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "EDGEPRUNE_DATA"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("EDGEPRUNE_DATA" in line for line in lines)
