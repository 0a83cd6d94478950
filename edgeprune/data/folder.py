"""What a folder of the user's own holds: images by class, Parquet files, or .npz files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.data import cells, image_folder, npz, parquet
from edgeprune.data.cells import Cells
from edgeprune.data.default_splits import default_splits
from edgeprune.data.encoded import Resizing, shape_of
from edgeprune.data.info import LABEL, METRICS, DatasetInfo
from edgeprune.data.pixels import Pixels
from edgeprune.data.tensors import Tensors
from edgeprune.data.wordpiece import Text
from edgeprune.errors import DataError
from edgeprune.judge import CLASSIFICATION, QUESTIONS, REGRESSION, UNJUDGED
from edgeprune.recipe import Rows
from edgeprune.tensor import IMAGE

ANSWERS = "answers"
QUESTION = ("question", "context")
TEXTS = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("text",),
    ("sentence",),
)
"""Columns that hold what a model is asked about, as the data sets on the hub call them."""
LENGTH, QUESTION_LENGTH, QUESTION_STRIDE = 128, 384, 128


def is_place(path: Path) -> bool:
    """Whether something is there that could hold samples."""
    return path.is_dir() or (path.suffix == npz.SUFFIX and path.is_file())


def describe(place: Path, resize: Resizing | None, channels: int | None = None) -> DatasetInfo:
    """What a folder or an .npz file holds. Raises DataError where it cannot be used."""
    stored = parquet.stored_splits(place) if place.is_dir() else {}
    arrays = npz.stored_splits(place)
    if stored and arrays:
        raise DataError(f"{place}: holds Parquet and .npz files: put them into folders of their own")
    if arrays:
        return _of_arrays(place, arrays)
    if not stored:
        return _of_images(place, resize, channels)
    first = next(iter(stored.values()))[0]
    columns = parquet.columns_of(first)
    if IMAGE in columns:
        return _of_encoded(place, stored, resize, channels)
    if set(QUESTION) <= set(columns) and ANSWERS in columns:
        return _of_questions(place, stored)
    texts = next((names for names in TEXTS if set(names) <= set(columns)), None)
    if texts is None:
        listed = ", ".join(" + ".join(names) for names in TEXTS)
        raise DataError(f"{first}: has the columns {', '.join(columns)}: {IMAGE} is needed, or text: {listed}")
    return _of_texts(place, stored, texts, labelled=LABEL in columns)


def _of_images(place: Path, resize: Resizing | None, channels: int | None) -> DatasetInfo:
    listing = image_folder.scan(place)
    labels = {split: np.array([label for _, label in files], np.int64) for split, files in listing.splits.items()}
    splits = default_splits(str(place), _sizes(labels), labels)
    first = image_folder.read(listing.splits[_split(splits["train"])][:1])
    return _image_info(place, listing.classes, splits, first, resize, channels)


def _of_encoded(
    place: Path, stored: Mapping[str, tuple[Path, ...]], resize: Resizing | None, channels: int | None
) -> DatasetInfo:
    labels = {split: _labels(files, CLASSIFICATION) for split, files in stored.items()}
    splits = default_splits(str(place), _sizes(labels), labels)
    files = stored[_split(splits["train"])]
    first = parquet.read(files, (IMAGE,), 0, 1)
    return _image_info(place, _classes(place, stored, labels), splits, first, resize, channels)


def _image_info(
    place: Path,
    classes: tuple[str, ...],
    splits: dict[str, Rows],
    first: Cells,
    resize: Resizing | None,
    channels: int | None,
) -> DatasetInfo:
    """A folder says nothing of its statistics, so pixels are mapped to [-1, 1]; a recipe's `normalize` overrides."""
    height, width, found = shape_of(first.columns[IMAGE][0], first.places[0], resize, channels)
    half = (0.5,) * found
    return DatasetInfo(str(place), (IMAGE,), classes, Pixels((height, width), 255, half, half, resize), splits)


def _of_texts(
    place: Path, stored: Mapping[str, tuple[Path, ...]], columns: tuple[str, ...], *, labelled: bool
) -> DatasetInfo:
    text = Text(columns, LENGTH)
    if not labelled:
        counts = {split: parquet.count(files) for split, files in stored.items()}
        return _unlabelled(place, columns, text, default_splits(str(place), counts, None))
    task = REGRESSION if parquet.is_float(next(iter(stored.values()))[0], LABEL) else CLASSIFICATION
    labels = {split: _labels(files, task) for split, files in stored.items()}
    classes = _classes(place, stored, labels) if task == CLASSIFICATION else ()
    splits = default_splits(str(place), _sizes(labels), labels, classes=bool(classes))
    return DatasetInfo(str(place), columns, classes, text, splits, task, METRICS[task])


def _of_questions(place: Path, stored: Mapping[str, tuple[Path, ...]]) -> DatasetInfo:
    task, text = QUESTIONS, Text(QUESTION, QUESTION_LENGTH, stride=QUESTION_STRIDE)
    labels = {split: parquet.read(files, (ANSWERS,), 0, parquet.count(files)) for split, files in stored.items()}
    answers = {split: cells.to_labels(found, ANSWERS, task, 0) for split, found in labels.items()}
    splits = default_splits(str(place), _sizes(answers), answers, classes=False)
    return DatasetInfo(str(place), QUESTION, (), text, splits, task, METRICS[task], ANSWERS)


def _of_arrays(place: Path, stored: Mapping[str, tuple[Path, ...]]) -> DatasetInfo:
    specs, some = npz.specs(stored)
    columns, given = tuple(spec.name for spec in specs), Tensors(specs)
    if some is None:
        counts = {split: npz.count(files) for split, files in stored.items()}
        return _unlabelled(place, columns, given, default_splits(str(place), counts, None))
    task = UNJUDGED if some.ndim > 1 else REGRESSION if some.dtype.kind == "f" else CLASSIFICATION
    found = {split: npz.read(files, (LABEL,), 0, npz.count(files)) for split, files in stored.items()}
    labels = {split: cells.to_labels(one, LABEL, task, 0) for split, one in found.items()}
    classes = _numbered(labels) if task == CLASSIFICATION else ()
    splits = default_splits(str(place), _sizes(labels), labels, classes=bool(classes))
    return DatasetInfo(str(place), columns, classes, given, splits, task, METRICS[task])


def _unlabelled(place: Path, columns: tuple[str, ...], given: Text | Tensors, splits: dict[str, Rows]) -> DatasetInfo:
    return DatasetInfo(str(place), columns, (), given, splits, UNJUDGED, (), label=None)


def _labels(files: tuple[Path, ...], task: str) -> NDArray[Any]:
    return cells.to_labels(parquet.read(files, (LABEL,), 0, parquet.count(files)), LABEL, task, 0)


def _classes(
    place: Path, stored: Mapping[str, tuple[Path, ...]], labels: Mapping[str, NDArray[Any]]
) -> tuple[str, ...]:
    numbered = _numbered(labels)
    named = filter(None, (parquet.class_names(files[0]) for files in stored.values()))
    classes = next(named, numbered)
    if len(numbered) > len(classes):
        raise DataError(f"{place}: label {len(numbered) - 1} where only {len(classes)} classes are named")
    return classes


def _numbered(labels: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    return tuple(map(str, range(max((int(values.max()) for values in labels.values() if len(values)), default=-1) + 1)))


def _sizes(labels: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    return {split: len(values) for split, values in labels.items()}


def _split(rows: Rows) -> str:
    return rows.source.rpartition(":")[2]
