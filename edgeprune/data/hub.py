"""Image rows of a data set on the Hugging Face hub, through the `datasets` library; no code from the hub is run."""

from __future__ import annotations

import numpy as np

from edgeprune.data.encoded import Encoded
from edgeprune.errors import MissingError


def read(repository: str, split: str, image: str, start: int, stop: int | None) -> Encoded:
    """Rows of a split with the image column `image` and the column `label`; fewer where there are not so many.

    Raises MissingError where the library is not installed or the hub cannot be reached.
    """
    otherwise = "or set EDGEPRUNE_DATA to a folder that has it as Parquet files"
    try:
        import datasets
    except ImportError as error:
        raise MissingError(f"{repository}: pip install 'edgeprune[compile]', {otherwise}") from error
    try:
        stored = datasets.load_dataset(repository, split=split).cast_column(image, datasets.Image(decode=False))
    except Exception as error:  # the library passes on what its HTTP client, file system and parsers raise
        reason = " ".join(str(error).split())[:120]
        raise MissingError(f"{repository}: not on the hub or no network ({reason}): connect, {otherwise}") from error
    rows = range(start, len(stored) if stop is None else min(stop, len(stored)))
    chosen = stored.select(rows)[:]
    places = [f"{repository}:{split} row {row}" for row in rows]
    return Encoded([cell["bytes"] for cell in chosen[image]], np.array(chosen["label"], np.int64), places)
