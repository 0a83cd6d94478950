"""Which rows of a folder train, calibrate, select and report, where nobody says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import DataError
from edgeprune.recipe import Rows

CALIBRATION_SAMPLES = 512
FEWEST = 10  # training samples
FEWEST_UNLABELLED = 3  # one each to calibrate, to select on and to report on
HELD_OUT = 0.15  # of them, to select on and to report on, where there is no stored split for it
STORED = {"report": ("test",), "select": ("validation", "val", "valid", "dev")}


def default_splits(
    folder: str, counts: Mapping[str, int], labels: Mapping[str, NDArray[Any]] | None, *, classes: bool = True
) -> dict[str, Rows]:
    """Rows per role from the size of each stored split and its labels, in stored order.

    Splits called `test` and `validation` are used whole; where there is none, the last training rows are held out.
    Without `labels` nothing trains. `classes`: labels are numbers of classes, of which every role must see several.

    Raises DataError where no split is called train, rows are too few or sorted, or a role would see one class only.
    """
    train = "train" if "train" in counts or len(counts) > 1 else next(iter(counts))
    if train not in counts:
        raise DataError(f"{folder}: splits {', '.join(sorted(counts))}: one must be called train")
    rows, fewest = counts[train], FEWEST if labels is not None else FEWEST_UNLABELLED
    if rows < fewest:
        raise DataError(f"{folder}: {rows} samples in {train} are too few, {fewest} are the least")
    if labels is not None and classes:
        _check_classes(folder, train, labels)
    left = rows
    splits: dict[str, Rows] = {}
    for role, names in STORED.items():
        if found := [name for name in names if name in counts]:
            splits[role] = Rows(source=f"{folder}:{found[0]}")
        else:
            held = max(round(HELD_OUT * rows), 1)
            splits[role] = Rows(source=f"{folder}:{train}", start=left - held, stop=left)
            left -= held
    if labels is not None:
        splits["train"] = Rows(source=f"{folder}:{train}", stop=left)
    splits["calibrate"] = Rows(source=f"{folder}:{train}", stop=min(left, CALIBRATION_SAMPLES))
    if labels is not None and classes:
        _check_roles(splits, labels)
    return splits


def _check_roles(splits: Mapping[str, Rows], labels: Mapping[str, NDArray[Any]]) -> None:
    for role, part in splits.items():
        stored = labels[part.source.rpartition(":")[2]]
        if len(np.unique(stored[part.start : part.stop])) < 2:
            raise DataError(f"{part}: all {role} samples are of one class: say in a recipe which rows do what")


def _check_classes(folder: str, train: str, labels: Mapping[str, NDArray[Any]]) -> None:
    if len(np.unique(np.concatenate(list(labels.values())))) < 2:
        raise DataError(f"{folder}: all samples are of one class: add samples of others")
    if np.all(np.diff(labels[train]) >= 0):
        raise DataError(
            f"{folder}: the rows of {train} are sorted by label: shuffle them, or say in a recipe which rows do what"
        )
