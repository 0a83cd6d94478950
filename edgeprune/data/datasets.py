"""Data sets by name or folder: what they are, which rows do what, and the rows themselves."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeprune.data import digits, hub, image_folder, parquet
from edgeprune.data.default_splits import CALIBRATION_SAMPLES, default_splits
from edgeprune.data.encoded import Encoded, decode, shape_of
from edgeprune.data.preprocess import Preprocess
from edgeprune.errors import DataError, MissingError
from edgeprune.recipe import Rows
from edgeprune.registry import unknown

ROOT_VARIABLE = "EDGEPRUNE_DATA"

T = TypeVar("T")


@dataclass(frozen=True)
class Samples:
    """Images with their classes."""

    images: NDArray[np.uint8]
    """[N, H, W, C]."""
    labels: NDArray[np.int64]
    """[N]."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class DatasetInfo:
    """What can be known of a data set without decoding it."""

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    """Height, width, channels."""
    preprocess: Preprocess
    splits: dict[str, Rows]
    """`train`, `calibrate`, `select`, `report`, where there are rows for them; what has another key is reported too,
    apart, and decides nothing."""
    calibration: str | None = None
    """The name of its shipped calibration set."""


_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_PREPROCESS = Preprocess(255, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_DIGITS = tuple("0123456789")

KNOWN = {
    info.name: info
    for info in (
        DatasetInfo(
            "digits",
            _DIGITS,
            (8, 8, 1),
            Preprocess(16, (0.307,), (0.376,)),
            {
                "train": Rows(source="digits:all", stop=1097),
                "calibrate": Rows(source="digits:all", stop=256),
                "select": Rows(source="digits:all", start=1097, stop=1397),
                "report": Rows(source="digits:all", start=1397, stop=1797),
            },
            "digits",
        ),
        DatasetInfo(
            "mnist",
            _DIGITS,
            (28, 28, 1),
            Preprocess(255, (0.1307,), (0.3081,)),
            {
                "train": Rows(source="mnist:train", stop=55_000),
                "calibrate": Rows(source="mnist:train", stop=CALIBRATION_SAMPLES),
                "select": Rows(source="mnist:train", start=55_000, stop=60_000),
                "report": Rows(source="mnist:test"),
            },
            "mnist",
        ),
        DatasetInfo(
            "cifar10",
            _CIFAR_CLASSES,
            (32, 32, 3),
            _CIFAR_PREPROCESS,
            {
                "train": Rows(source="cifar10:train", stop=40_000),
                "calibrate": Rows(source="cifar10:train", stop=CALIBRATION_SAMPLES),
                "select": Rows(source="cifar10:train", start=40_000, stop=45_000),
                "report": Rows(source="cifar10:train", start=45_000, stop=50_000),
                "test": Rows(source="cifar10:test"),
            },
            "cifar10",
        ),
        # Lossy, so nothing is trained on it and weights trained here are not judged by it: it compares a float with
        # a quantized network on equal rows.
        DatasetInfo(
            "cifar10_jpeg75",
            _CIFAR_CLASSES,
            (32, 32, 3),
            _CIFAR_PREPROCESS,
            {
                "calibrate": Rows(source="cifar10:train", stop=CALIBRATION_SAMPLES),
                "select": Rows(source="cifar10_jpeg75:test", start=1000, stop=5500),
                "report": Rows(source="cifar10_jpeg75:test", start=5500, stop=10_000),
            },
            "cifar10",
        ),
    )
}

# Repository on the hub and its image column.
HUB = {"mnist": ("ylecun/mnist", "image"), "cifar10": ("uoft-cs/cifar10", "img")}


def describe(name: str) -> DatasetInfo:
    """What is known of a named data set (nothing is read), or found in a folder.

    Raises UnknownNameError with the nearest name; DataError where a folder is empty, has one class, has too few
    images or images that cannot be decoded.
    """
    if name in KNOWN:
        return KNOWN[name]
    folder = Path(name)
    if folder.is_dir():
        return _describe_parquet(folder) if parquet.stored_splits(folder) else _describe_images(folder)
    if len(folder.parts) > 1 or folder.exists():
        raise DataError(f"{name}: no such folder")
    raise unknown("data set", name, KNOWN, hint="or a folder of images or Parquet files")


def read(rows: Rows, *, root: Path | None = None) -> Samples:
    """Decode the rows; a named set is looked for under `root` (None: $EDGEPRUNE_DATA), without one on the hub.

    Raises DataError naming the file where rows are missing or an image is not like the first, MissingError where
    neither a folder nor the hub has the set.
    """
    name, _ = _source(rows)
    if name == "digits":
        images, labels = digits.load()
        chosen = _range(rows, len(labels))
        return Samples(images[chosen], labels[chosen])
    encoded = _encoded(rows, root)
    return Samples(decode(encoded), encoded.labels)


def digests(rows: Rows, *, root: Path | None = None) -> tuple[str, ...]:
    """One hash per sample, of its bytes as stored and its label; no image is decoded.

    Equal hashes are equal samples. The same picture stored in two formats has two.
    """
    name, _ = _source(rows)
    if name == "digits":
        samples = read(rows)
        return tuple(_digest(x.tobytes(), y) for x, y in zip(samples.images, samples.labels, strict=True))
    encoded = _encoded(rows, root)
    return tuple(_digest(x, y) for x, y in zip(encoded.images, encoded.labels, strict=True))


def _digest(content: bytes, label: np.int64) -> str:
    return hashlib.sha256(content + int(label).to_bytes(8, "little")).hexdigest()


def _source(rows: Rows) -> tuple[str, str]:
    name, _, split = rows.source.rpartition(":")
    if not name or not split:
        raise DataError(f"rows {rows}: a source is written <data set or folder>:<stored split>, e.g. digits:all")
    return name, split


def _range(rows: Rows, stored: int) -> slice:
    """`rows` as a slice of `stored` rows. Raises DataError where it is empty or reaches beyond them."""
    stop = stored if rows.stop is None else rows.stop
    if not rows.start < stop <= stored:
        raise DataError(f"rows {rows}: {rows.source} has {stored} rows, none or not all of these")
    return slice(rows.start, stop)


def _encoded(rows: Rows, root: Path | None) -> Encoded:
    name, split = _source(rows)
    if name in KNOWN:
        folder = root or _root_from_environment()
        if folder is None:
            return _from_hub(rows, name, split)
        folder = folder / name
    else:
        folder = Path(name)
    if not folder.is_dir():
        raise DataError(f"rows {rows}: no folder {folder}")
    if files := parquet.stored_splits(folder):
        chosen = _range(rows, parquet.count(_of_split(rows, files, split)))
        return parquet.read(files[split], chosen.start, chosen.stop)
    listed = _of_split(rows, image_folder.scan(folder).splits, split)
    return image_folder.read(listed[_range(rows, len(listed))])


def _describe_images(folder: Path) -> DatasetInfo:
    listing = image_folder.scan(folder)
    labels = {split: np.array([label for _, label in files], np.int64) for split, files in listing.splits.items()}
    splits = default_splits(str(folder), labels)
    first = image_folder.read(listing.splits[_source(splits["train"])[1]][:1])
    return _folder_info(folder, listing.classes, splits, first)


def _describe_parquet(folder: Path) -> DatasetInfo:
    stored = parquet.stored_splits(folder)
    labels = {split: parquet.labels(files) for split, files in stored.items()}
    found = max((int(values.max()) for values in labels.values() if len(values)), default=-1) + 1
    named = filter(None, (parquet.class_names(files[0]) for files in stored.values()))
    classes = next(named, tuple(map(str, range(found))))
    if found > len(classes):
        raise DataError(f"{folder}: label {found - 1} where only {len(classes)} classes are named")
    splits = default_splits(str(folder), labels)
    first = parquet.read(stored[_source(splits["train"])[1]], 0, 1)
    return _folder_info(folder, classes, splits, first)


def _folder_info(folder: Path, classes: tuple[str, ...], splits: dict[str, Rows], first: Encoded) -> DatasetInfo:
    """A folder says nothing of its statistics, so pixels are mapped to [-1, 1]; a recipe's `normalize` overrides."""
    shape = shape_of(first.images[0], first.places[0])
    half = (0.5,) * shape[2]
    return DatasetInfo(str(folder), classes, shape, Preprocess(255, half, half), splits)


def _root_from_environment() -> Path | None:
    value = os.environ.get(ROOT_VARIABLE)
    return Path(value) if value else None


def _from_hub(rows: Rows, name: str, split: str) -> Encoded:
    if name not in HUB:
        raise MissingError(f"{name}: not on the hub: set {ROOT_VARIABLE} to a folder that has {name}/ as Parquet files")
    repository, image = HUB[name]
    encoded = hub.read(repository, split, image, rows.start, rows.stop)
    _range(rows, rows.start + len(encoded.labels))
    return encoded


def _of_split(rows: Rows, splits: Mapping[str, tuple[T, ...]], split: str) -> tuple[T, ...]:
    if split not in splits:
        raise DataError(f"rows {rows}: no stored split {split!r}; there are {', '.join(sorted(splits))}")
    return splits[split]
