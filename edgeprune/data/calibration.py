"""Calibration sets: which samples a network's value ranges are taken from, with a hash that proves them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgeprune import shipped
from edgeprune.data.datasets import read
from edgeprune.data.info import DatasetInfo
from edgeprune.data.samples import Samples
from edgeprune.errors import DataError
from edgeprune.recipe import ObserverName, Rows, read_yaml


class CalibrationSet(BaseModel):
    """One file of `calibration/`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    data: str
    """The data set or folder it belongs to."""
    rows: Rows
    observer: ObserverName = "minmax"
    """How ranges are taken from the values seen."""
    sha256: str
    """Over the decoded samples, so that it holds for any lossless storage of them."""
    note: str = ""


def load_calibration(name_or_path: str) -> CalibrationSet:
    """Read a shipped calibration set or a file. Raises UnknownNameError with the nearest name, ConfigError."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = shipped.find("calibration", name_or_path)
    return read_yaml(path, CalibrationSet)


def verify(calibration: CalibrationSet, info: DatasetInfo, *, root: Path | None = None) -> Samples:
    """Read the set's samples and return them. Raises DataError where they are not those it was made with."""
    samples = read(calibration.rows, info, root=root)
    found = content_hash(samples)
    if found != calibration.sha256:
        raise DataError(
            f"calibration set {calibration.name}: {calibration.rows} are not the samples it was made with: sha256 "
            f"{found} instead of {calibration.sha256}: restore the data, or write its own hash into a set of your own"
        )
    return samples


def content_hash(samples: Samples) -> str:
    """Hash of shape and content of every column, and of the labels."""
    digest = hashlib.sha256()
    for column in samples.columns.values():
        digest.update(repr(column.shape).encode())
        digest.update(repr(column.tolist()).encode() if column.dtype == object else column.tobytes())
    if samples.labels is not None:
        numbers = np.issubdtype(samples.labels.dtype, np.integer)
        digest.update(samples.labels.astype("<i8").tobytes() if numbers else repr(samples.labels.tolist()).encode())
    return digest.hexdigest()
