"""Rows of .npz files: a model's inputs by name, and `label` where there are right answers."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.data.cells import Cells
from edgeprune.data.info import LABEL
from edgeprune.errors import DataError
from edgeprune.tensor import TensorSpec

SUFFIX = ".npz"
ALIASES = (LABEL, "labels")
UNREADABLE = (OSError, ValueError, EOFError, MemoryError, KeyError, zipfile.BadZipFile, zlib.error)

Arrays = dict[str, NDArray[Any]]


def stored_splits(place: Path) -> dict[str, tuple[Path, ...]]:
    """The files of each split in a folder, or of the only one, in order: `train-00000-of-00002.npz` is of `train`."""
    splits: dict[str, list[Path]] = {}
    for file in sorted(place.rglob(f"*{SUFFIX}")) if place.is_dir() else [place]:
        splits.setdefault(re.sub(r"-\d+-of-\d+$", "", file.stem), []).append(file)
    return {name: tuple(files) for name, files in splits.items()}


def load(file: Path, names: Sequence[str] | None = None) -> Arrays:
    """The arrays in a file (those in `names`), `label` for whatever the labels are called.

    Raises DataError naming file and array where one is missing or not of finite numbers, or has more rows.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            called = {LABEL if name in ALIASES else name: name for name in stored.files}
            if missing := [name for name in names or () if name not in called]:
                raise DataError(f"{file}: holds {', '.join(stored.files)}: '{missing[0]}' is needed")
            arrays = {name: stored[called[name]] for name in (called if names is None else names)}
    except UNREADABLE as error:
        if "pickle" in str(error).lower():
            raise DataError(
                f"{file}: holds Python objects (pickled), which could run anything: save numbers"
            ) from error
        raise DataError(f"{file}: cannot be read as .npz ({type(error).__name__}): save it again") from error
    except (TypeError, AttributeError) as error:  # NumPy gives an array, which cannot be entered
        raise DataError(f"{file}: is no .npz archive but one array: call it .npy") from error
    for name, array in arrays.items():
        _check(array, f"{file}: '{name}'")
    if len({len(array) for array in arrays.values()}) > 1:
        told = ", ".join(f"{len(array)} of {name}" for name, array in arrays.items())
        raise DataError(f"{file}: as many rows are needed in every array: {told}")
    return arrays


def count(files: Sequence[Path]) -> int:
    """Rows in all files."""
    return sum(len(next(iter(load(file).values()))) for file in files)


def read(files: Sequence[Path], columns: Sequence[str], start: int, stop: int) -> Cells:
    """Rows `start` to `stop` over all files as one."""
    cells: dict[str, list[Any]] = {column: [] for column in columns}
    places: list[str] = []
    before = 0
    for file in files:
        arrays = load(file, columns)
        rows = len(next(iter(arrays.values())))
        wanted = range(max(start - before, 0), min(stop - before, rows))
        for column in columns:
            cells[column] += list(arrays[column][wanted.start : wanted.stop]) if wanted else []
        places += [f"{file} row {row}" for row in wanted]
        before += rows
    return Cells(cells, places)


def specs(splits: Mapping[str, tuple[Path, ...]]) -> tuple[tuple[TensorSpec, ...], NDArray[Any] | None]:
    """What every file holds, and some of the labels where there are any. Raises DataError where files differ."""
    first, *others = [file for files in splits.values() for file in files]
    arrays = load(first)
    found = _specs(arrays)
    if not found:
        raise DataError(f"{first}: holds labels only: an array per input of the model is needed")
    for file in others:
        other = load(file)
        if _specs(other) != found or (LABEL in other) != (LABEL in arrays):
            raise DataError(f"{file}: other arrays than in {first}: names, types and shapes must agree")
    return found, arrays.get(LABEL)


def _specs(arrays: Arrays) -> tuple[TensorSpec, ...]:
    chosen = {name: array for name, array in arrays.items() if name != LABEL}
    return tuple(TensorSpec(name, array.dtype.name, ("batch", *array.shape[1:])) for name, array in chosen.items())


def _check(array: NDArray[Any], what: str) -> None:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what} is {array.dtype}: numbers are needed")
    if array.ndim == 0 or array.size == 0:
        raise DataError(f"{what} has the shape {list(array.shape)}: no rows, or nothing in them")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0, 0])
        raise DataError(f"{what} row {row}: holds values that are not finite (NaN or infinity)")
