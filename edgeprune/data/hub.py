"""Rows of a data set on the Hugging Face hub, through the `datasets` library; no code from the hub is run."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune.data.cells import Cells
from edgeprune.data.info import Hub
from edgeprune.data.parquet import ALIASES
from edgeprune.errors import DataError, MissingError
from edgeprune.tensor import IMAGE


def read(hub: Hub, split: str, columns: Sequence[str], start: int, stop: int | None) -> Cells:
    """Rows of a split; fewer where there are not so many.

    Raises MissingError where the library is not installed or the hub cannot be reached, DataError for a column that
    is not there.
    """
    otherwise = "or set EDGEPRUNE_DATA to a folder that has it as Parquet files"
    try:
        import datasets
    except ImportError as error:
        raise MissingError(f"{hub.repository}: pip install 'edgeprune[compile]', {otherwise}") from error
    try:
        stored = datasets.load_dataset(hub.repository, hub.configuration, split=split)
    except Exception as error:  # the library passes on what its HTTP client, file system and parsers raise
        reason = " ".join(str(error).split())[:120]
        raise MissingError(
            f"{hub.repository}: not on the hub or no network ({reason}): connect, {otherwise}"
        ) from error
    rows = range(start, len(stored) if stop is None else min(stop, len(stored)))
    cells = {}
    for column in columns:
        name = next((name for name in ALIASES.get(column, (column,)) if name in stored.column_names), None)
        if name is None:
            raise DataError(f"{hub.repository}: columns {stored.column_names}: {column} is needed")
        if column == IMAGE:
            stored = stored.cast_column(name, datasets.Image(decode=False))
        values = stored.select(rows)[name]
        cells[column] = [cell["bytes"] for cell in values] if column == IMAGE else list(values)
    return Cells(cells, [f"{hub.repository}:{split} row {row}" for row in rows])
