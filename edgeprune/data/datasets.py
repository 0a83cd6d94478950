"""Data sets by name or folder: what they are, and their rows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeprune.data import cells, digits, folder, hub, image_folder, npz, parquet
from edgeprune.data.cells import Cells
from edgeprune.data.encoded import Resizing
from edgeprune.data.image_sets import IMAGE_SETS
from edgeprune.data.info import DatasetInfo
from edgeprune.data.pixels import Pixels
from edgeprune.data.samples import Samples
from edgeprune.data.text_sets import TEXT_SETS
from edgeprune.data.vocabulary import ROOT_VARIABLE
from edgeprune.errors import DataError, MissingError, UnknownNameError
from edgeprune.recipe import Rows
from edgeprune.registry import unknown
from edgeprune.tensor import IMAGE

ORDER_SEED = 0
"""Of the order in which rows are read that are stored sorted."""

T = TypeVar("T")

KNOWN = {info.name: info for info in (*IMAGE_SETS, *TEXT_SETS)}


def describe(name: str, *, resize: Resizing | None = None, channels: int | None = None) -> DatasetInfo:
    """What is known of a named data set (nothing is read), or found in a folder, whose images get `resize`, and become
    RGB where `channels` are 3.

    Raises UnknownNameError with the nearest name; DataError where a folder is empty, has one class, has too few
    samples or some that cannot be read.
    """
    if name in KNOWN:
        return KNOWN[name]
    place = Path(name)
    if folder.is_place(place):
        return folder.describe(place, resize, channels)
    if len(place.parts) > 1 or place.exists() or place.suffix == npz.SUFFIX:
        raise DataError(f"{name}: no such folder, and no .npz file")
    if (meant := f"glue:{name}") in KNOWN:
        raise UnknownNameError(f"unknown data set '{name}': did you mean '{meant}'?")
    raise unknown("data set", name, KNOWN, hint="or a folder of images, Parquet or .npz files")


def read(rows: Rows, info: DatasetInfo, *, resize: Resizing | None = None, root: Path | None = None) -> Samples:
    """Decode the rows, of the kind that `info` says; a named set is looked for under `root` (None: $EDGEPRUNE_DATA),
    without one on the hub.

    Raises DataError naming the file where rows are missing or cannot be used, MissingError where neither a folder nor
    the hub has the set.
    """
    if source_of(rows)[0] == "digits":
        images, labels = digits.load()
        chosen = _range(rows, len(labels))
        return Samples({IMAGE: images[chosen]}, labels[chosen] if info.label else None)
    stored = _cells(rows, _wanted(info), root)
    channels = len(info.preprocess.mean) if isinstance(info.preprocess, Pixels) else None
    return cells.to_samples(stored, info.columns, info.label, info.task, len(info.classes), resize, channels)


def labels(rows: Rows, info: DatasetInfo, *, root: Path | None = None) -> NDArray[Any] | None:
    """The right answers to the rows [N], without their other columns; None where there are none."""
    if info.label is None or source_of(rows)[0] == "digits":
        return None if info.label is None else read(rows, info).labels
    return cells.to_labels(_cells(rows, (info.label,), root), info.label, info.task, len(info.classes))


def digests(rows: Rows, info: DatasetInfo, *, root: Path | None = None) -> tuple[str, ...]:
    """One hash per sample, of its bytes as stored and its label; no image is decoded.

    Equal hashes are equal samples. The same picture stored in two formats has two.
    """
    if source_of(rows)[0] == "digits":
        images, classes = digits.load()
        chosen = _range(rows, len(classes))
        stored = {IMAGE: [image.tobytes() for image in images[chosen]], "label": classes[chosen].tolist()}
        return cells.digests(Cells(stored, []), (IMAGE,), "label")
    return cells.digests(_cells(rows, _wanted(info), root), info.columns, info.label)


def _wanted(info: DatasetInfo) -> tuple[str, ...]:
    return (*info.columns, *([info.label] if info.label else []))


def source_of(rows: Rows) -> tuple[str, str]:
    """The data set or folder, and its stored split. Raises DataError where one is missing."""
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


def _cells(rows: Rows, columns: Sequence[str], root: Path | None) -> Cells:
    """Stored rows; of a set that is stored sorted, in its fixed order."""
    info = KNOWN.get(source_of(rows)[0])
    if info is None or not info.sorted:
        return _stored(rows, columns, root)
    everything = _stored(Rows(source=rows.source), columns, root)
    order = np.random.default_rng(ORDER_SEED).permutation(len(everything))
    return everything.part(order[_range(rows, len(everything))])


def _stored(rows: Rows, columns: Sequence[str], root: Path | None) -> Cells:
    name, split = source_of(rows)
    if name in KNOWN:
        under = root or _root_from_environment()
        if under is None:
            return _from_hub(rows, KNOWN[name], split, columns)
        place = under / name.replace(":", "/")
    else:
        place = Path(name)
    if not folder.is_place(place):
        raise DataError(f"rows {rows}: no folder {place}: put {name} there as Parquet files, or unset {ROOT_VARIABLE}")
    if place.is_dir() and (files := parquet.stored_splits(place)):
        chosen = _range(rows, parquet.count(_of_split(rows, files, split)))
        return parquet.read(files[split], columns, chosen.start, chosen.stop)
    if arrays := npz.stored_splits(place):
        chosen = _range(rows, npz.count(_of_split(rows, arrays, split)))
        return npz.read(arrays[split], columns, chosen.start, chosen.stop)
    listing = image_folder.scan(place)
    if (
        name in KNOWN
        and set(listing.classes) != set(KNOWN[name].classes)
        and len(listing.classes) != len(KNOWN[name].classes)
    ):
        raise DataError(
            f"{place}: has folders for {len(listing.classes)} of the {len(KNOWN[name].classes)} classes of {name}:"
            " their numbers would be others"
        )
    listed = _of_split(rows, listing.splits, split)
    return image_folder.read(listed[_range(rows, len(listed))])


def _root_from_environment() -> Path | None:
    value = os.environ.get(ROOT_VARIABLE)
    return Path(value) if value else None


def _from_hub(rows: Rows, info: DatasetInfo, split: str, columns: Sequence[str]) -> Cells:
    if info.hub is None:
        raise MissingError(
            f"{info.name}: not on the hub: set {ROOT_VARIABLE} to a folder that has {info.name}/ as Parquet files"
        )
    found = hub.read(info.hub, split, columns, rows.start, rows.stop)
    _range(rows, rows.start + len(found))
    return found


def _of_split(rows: Rows, splits: Mapping[str, tuple[T, ...]], split: str) -> tuple[T, ...]:
    if split not in splits:
        raise DataError(f"rows {rows}: no stored split {split!r}; there are {', '.join(sorted(splits))}")
    return splits[split]
