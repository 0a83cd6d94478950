"""Image rows of Parquet files: a column `image` or `img`, of bytes or of struct{bytes, path}, and a column `label`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.data.encoded import Encoded
from edgeprune.errors import CorruptError, DataError, MissingError

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMN = "label"


def stored_splits(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The files of each split under `folder`, in order: `train-00000-of-00002.parquet` belongs to `train`."""
    splits: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*.parquet")):
        splits.setdefault(re.sub(r"-\d+-of-\d+$", "", file.stem), []).append(file)
    return {name: tuple(files) for name, files in splits.items()}


def count(files: Sequence[Path]) -> int:
    """Rows in all files."""
    return sum(_open(file).metadata.num_rows for file in files)


def read(files: Sequence[Path], start: int, stop: int) -> Encoded:
    """Rows `start` to `stop` over all files as one; only the row groups that hold them are read.

    Raises DataError naming file and row where an image or a label is none, CorruptError where a file is not Parquet.
    """
    images: list[bytes] = []
    labels: list[NDArray[np.int64]] = []
    places: list[str] = []
    for file, first, table in _tables(files, start, stop):
        column = table.column(0)
        if hasattr(column.type, "fields"):
            import pyarrow.compute

            column = pyarrow.compute.struct_field(column, "bytes")
        here = [f"{file} row {first + i}" for i in range(len(column))]
        values = column.to_pylist()
        if None in values:
            raise DataError(f"{here[values.index(None)]}: holds no image bytes")
        images += values
        places += here
        labels.append(_integers(table.column(1), here))
    return Encoded(images, np.concatenate(labels) if labels else np.empty(0, np.int64), places)


def labels(files: Sequence[Path]) -> NDArray[np.int64]:
    """The labels of all rows [N]."""
    found = [np.empty(0, np.int64)]
    for file in files:
        opened = _open(file)
        _columns(opened, file)
        column = opened.read(columns=[LABEL_COLUMN]).column(0)
        found.append(_integers(column, [f"{file} row {i}" for i in range(len(column))]))
    return np.concatenate(found)


def class_names(file: Path) -> tuple[str, ...] | None:
    """The names of the label's values, where the file's metadata gives them (as the `datasets` library writes)."""
    metadata = _open(file).schema_arrow.metadata or {}
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][LABEL_COLUMN]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(map(str, names))


def _tables(files: Sequence[Path], start: int, stop: int) -> Iterator[tuple[Path, int, Any]]:
    """Each row group that holds wanted rows, cut to them, with the file and the row in it that it begins at."""
    before = 0
    for file in files:
        opened, in_file = _open(file), 0
        columns = _columns(opened, file)
        for group in range(opened.num_row_groups):
            rows = opened.metadata.row_group(group).num_rows
            low, high = max(start - before - in_file, 0), min(stop - before - in_file, rows)
            if low < high:
                try:
                    table = opened.read_row_group(group, columns=columns)
                except (OSError, ValueError) as error:
                    raise CorruptError(f"{file}: damaged Parquet ({error})") from error
                yield file, in_file + low, table.select(columns).slice(low, high - low)
            in_file += rows
        before += in_file


def _open(file: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingError(f"{file}: reading Parquet needs pyarrow: pip install 'edgeprune[compile]'") from error
    try:
        return pyarrow.parquet.ParquetFile(file)
    except (OSError, ValueError) as error:
        raise CorruptError(f"{file}: damaged or not Parquet ({error})") from error


def _columns(opened: Any, file: Path) -> list[str]:
    names = opened.schema_arrow.names
    image = next((name for name in IMAGE_COLUMNS if name in names), None)
    if image is None or LABEL_COLUMN not in names:
        raise DataError(f"{file}: columns {names}: an image column (image or img) and a label column are needed")
    return [image, LABEL_COLUMN]


def _integers(column: Any, places: Sequence[str]) -> NDArray[np.int64]:
    values = column.to_numpy()
    if values.dtype.kind not in "iu":  # a null turns integers into floats
        raise DataError(f"{places[0]}: labels are not all integers ({column.type}, {column.null_count} missing)")
    if len(values) and values.min() < 0:
        raise DataError(f"{places[int(values.argmin())]}: label {values.min()}: this row is not labelled")
    integers: NDArray[np.int64] = values.astype(np.int64)
    return integers
