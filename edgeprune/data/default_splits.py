"""Which rows of a folder train, calibrate, select and report, where nobody says so."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import DataError
from edgeprune.recipe import Rows

CALIBRATION_SAMPLES = 512
FEWEST = 10  # training images
HELD_OUT = 0.15  # of them, to select on and to report on, where there is no stored split for it
STORED = {"report": ("test",), "select": ("validation", "val", "valid", "dev")}


def default_splits(folder: str, labels: Mapping[str, NDArray[np.int64]]) -> dict[str, Rows]:
    """Rows per role from the labels of each stored split, in stored order.

    Splits called `test` and `validation` are used whole; where there is none, the last training rows are held out.

    Raises DataError where no split is called train, rows are too few or sorted, or a role would see one class only.
    """
    train = "train" if "train" in labels or len(labels) > 1 else next(iter(labels))
    if train not in labels:
        raise DataError(f"{folder}: splits {', '.join(sorted(labels))}: one must be called train")
    rows = len(labels[train])
    if rows < FEWEST:
        raise DataError(f"{folder}: {rows} images to train on are too few, {FEWEST} are the least")
    if len(np.unique(np.concatenate(list(labels.values())))) < 2:
        raise DataError(f"{folder}: all images are of one class: add images of others")
    if np.all(np.diff(labels[train]) >= 0):
        raise DataError(
            f"{folder}: the rows of {train} are sorted by label: shuffle them, or say in a recipe which rows do what"
        )
    left = rows
    splits: dict[str, Rows] = {}
    for role, names in STORED.items():
        if found := [name for name in names if name in labels]:
            splits[role] = Rows(source=f"{folder}:{found[0]}")
        else:
            held = round(HELD_OUT * rows)
            splits[role] = Rows(source=f"{folder}:{train}", start=left - held, stop=left)
            left -= held
    splits["train"] = Rows(source=f"{folder}:{train}", stop=left)
    splits["calibrate"] = Rows(source=f"{folder}:{train}", stop=min(left, CALIBRATION_SAMPLES))
    for role, part in splits.items():
        if len(np.unique(labels[part.source.rpartition(":")[2]][part.start : part.stop])) < 2:
            raise DataError(f"{part}: all {role} images are of one class: say in a recipe which rows do what")
    return splits
