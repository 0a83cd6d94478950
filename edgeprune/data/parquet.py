"""Rows of Parquet files, with the hub's column names; an image is bytes or struct{bytes, path}."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeprune.data.cells import Cells
from edgeprune.data.info import LABEL
from edgeprune.errors import CorruptError, DataError, MissingError
from edgeprune.tensor import IMAGE

ALIASES = {IMAGE: ("image", "img")}
"""What else a column may be called."""


def stored_splits(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The files of each split under `folder`, in order: `train-00000-of-00002.parquet` belongs to `train`."""
    splits: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*.parquet")):
        splits.setdefault(re.sub(r"-\d+-of-\d+$", "", file.stem), []).append(file)
    return {name: tuple(files) for name, files in splits.items()}


def count(files: Sequence[Path]) -> int:
    """Rows in all files."""
    return sum(_open(file).metadata.num_rows for file in files)


def columns_of(file: Path) -> tuple[str, ...]:
    """Names of the columns, `image` for whatever the image column is called."""
    names = _open(file).schema_arrow.names
    return tuple(next((key for key, known in ALIASES.items() if name in known), name) for name in names)


def read(files: Sequence[Path], columns: Sequence[str], start: int, stop: int) -> Cells:
    """Rows `start` to `stop` over all files as one; only the row groups and columns that are wanted are read.

    Raises DataError for a column that is not there, CorruptError where a file is not Parquet.
    """
    cells: dict[str, list[Any]] = {column: [] for column in columns}
    places: list[str] = []
    for file, first, table in _tables(files, columns, start, stop):
        for index, column in enumerate(columns):
            cells[column] += _values(table.column(index), column)
        places += [f"{file} row {first + row}" for row in range(table.num_rows)]
    return Cells(cells, places)


def class_names(file: Path) -> tuple[str, ...] | None:
    """The names of the label's values, where the file's metadata gives them (as the `datasets` library writes)."""
    metadata = _open(file).schema_arrow.metadata or {}
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][LABEL]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(map(str, names))


def is_float(file: Path, column: str) -> bool:
    """Whether a column holds numbers that need not be whole."""
    import pyarrow.types

    schema = _open(file).schema_arrow
    return bool(pyarrow.types.is_floating(schema.field(schema.get_field_index(column)).type))


def _values(column: Any, name: str) -> list[Any]:
    if name == IMAGE and hasattr(column.type, "fields"):
        import pyarrow.compute

        column = pyarrow.compute.struct_field(column, "bytes")
    values: list[Any] = column.to_pylist()
    return values


def _tables(files: Sequence[Path], columns: Sequence[str], start: int, stop: int) -> Iterator[tuple[Path, int, Any]]:
    """Each row group that holds wanted rows, cut to them, with the file and the row in it that it begins at."""
    before = 0
    for file in files:
        opened, in_file = _open(file), 0
        stored = [_stored_name(opened.schema_arrow.names, column, file) for column in columns]
        for group in range(opened.num_row_groups):
            rows = opened.metadata.row_group(group).num_rows
            low, high = max(start - before - in_file, 0), min(stop - before - in_file, rows)
            if low < high:
                try:
                    table = opened.read_row_group(group, columns=stored)
                except (OSError, ValueError) as error:
                    raise CorruptError(f"{file}: damaged Parquet ({error})") from error
                yield file, in_file + low, table.select(stored).slice(low, high - low)
            in_file += rows
        before += in_file


def _stored_name(names: Sequence[str], column: str, file: Path) -> str:
    found = next((name for name in ALIASES.get(column, (column,)) if name in names), None)
    if found is None:
        raise DataError(f"{file}: has the columns {', '.join(names)}: '{column}' is needed")
    return found


def _open(file: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingError(f"{file}: reading Parquet needs pyarrow: pip install 'edgeprune[compile]'") from error
    try:
        return pyarrow.parquet.ParquetFile(file)
    except (OSError, ValueError) as error:
        raise CorruptError(f"{file}: damaged or not Parquet ({error})") from error
