"""One file as a model's input: a tensor as it is, images and text after the bundle's own preprocessing."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.data.encoded import decode
from edgeprune.data.pixels import Pixels
from edgeprune.data.preprocess import Preprocess, feeds
from edgeprune.data.samples import objects
from edgeprune.data.wordpiece import WordPiece
from edgeprune.errors import DataError
from edgeprune.registry import require
from edgeprune.tensor import TensorSpec

UNREADABLE = (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error)

Arrays = dict[str, NDArray[Any]]


def read_input(
    path: Path, inputs: Sequence[TensorSpec], preprocess: Preprocess | None, *, others: Sequence[str] = ()
) -> Arrays:
    """The samples in a file, [N, ...] by input name.

    `.npz` holds an array per input name (those named in `others` are left aside), `.npy` the only input's, `.txt` a
    sample per line, of pairs with a tab between them; anything else is read as an image. An array of the input's own
    dtype and shape, with or without N, is taken as it is; text and 8-bit images [N, H, W, C] or [H, W, C] go through
    `preprocess`. Raises DataError naming what does not fit.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.suffix == ".txt":
        return feeds(inputs, _tokens(path, inputs, preprocess), str(path))
    if path.suffix == ".npz":
        arrays = _by_name(path, [spec.name for spec in inputs], others)
    else:
        arrays = {inputs[0].name: _only(path, inputs, preprocess)}
    fitted = {spec.name: _fitted(arrays[spec.name], spec, preprocess, path) for spec in inputs}
    if len({len(array) for array in fitted.values()}) > 1:
        told = ", ".join(f"{len(array)} of {name}" for name, array in fitted.items())
        raise DataError(f"{path}: as many samples are needed of every input: {told}")
    return fitted


def _tokens(path: Path, inputs: Sequence[TensorSpec], preprocess: Preprocess | None) -> Arrays:
    if not isinstance(preprocess, WordPiece):
        what = "8-bit images or " if isinstance(preprocess, Pixels) else ""
        raise DataError(f"{path}: is text; the model takes {what}numbers: {', '.join(spec.name for spec in inputs)}")
    try:
        lines = _bytes(path).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8 ({error.reason} at byte {error.start})") from error
    if not lines:
        raise DataError(f"{path}: is empty: one sample per line is needed")
    names = preprocess.text.columns
    if len(names) == 1:
        return preprocess({names[0]: objects(lines)})
    pairs = [line.split("\t") for line in lines]
    for number, pair in enumerate(pairs, 1):
        if len(pair) != len(names):
            raise DataError(f"{path} line {number}: {len(pair)} texts; {' <tab> '.join(names)} is needed")
    columns = zip(*pairs, strict=True)
    return preprocess({name: objects(column) for name, column in zip(names, columns, strict=True)})


def _only(path: Path, inputs: Sequence[TensorSpec], preprocess: Preprocess | None) -> NDArray[Any]:
    """The array or image of a model's only input."""
    if isinstance(preprocess, WordPiece) and path.suffix != ".npy":
        names = " <tab> ".join(preprocess.text.columns)
        raise DataError(f"{path}: the model takes text: give a .txt with {names} in each line, or an .npz of tokens")
    if len(inputs) > 1:
        names = ", ".join(spec.name for spec in inputs)
        raise DataError(f"{path}: the model has {len(inputs)} inputs: give an .npz that holds {names}")
    if path.suffix == ".npy":
        return _array(path)
    require("PIL", extra="compile")
    how = (preprocess.resize, len(preprocess.mean)) if isinstance(preprocess, Pixels) else ()
    return decode([_bytes(path)], [str(path)], *how)


def _by_name(path: Path, names: Sequence[str], others: Sequence[str]) -> Arrays:
    loaded = _loaded(path)
    if not isinstance(loaded, Mapping):
        raise DataError(f"{path}: is no .npz archive: call it .npy")
    found = set(loaded)
    if missing := set(names) - found or found - {*names, *others}:
        raise DataError(f"{path}: holds {sorted(found)}; the model takes {list(names)} ({sorted(missing)[0]})")
    try:
        return {name: loaded[name] for name in names}
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _array(path: Path) -> NDArray[Any]:
    loaded = _loaded(path)
    if isinstance(loaded, Mapping):
        raise DataError(f"{path}: is an .npz archive: call it .npz")
    array: NDArray[Any] = loaded
    return array


def _loaded(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: BaseException) -> DataError:
    if "pickle" in str(error).lower():
        return DataError(f"{path}: holds pickled Python objects, which could run anything: save numbers only")
    return DataError(f"{path}: cannot be read as NumPy's {path.suffix} ({type(error).__name__}): save it again")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _fitted(array: NDArray[Any], spec: TensorSpec, preprocess: Preprocess | None, path: Path) -> NDArray[Any]:
    """The array with its first dimension for the samples."""
    if array.dtype == np.uint8 and spec.dtype != "uint8" and isinstance(preprocess, Pixels):
        return _preprocessed(array, spec, preprocess, path)
    batched = array[None] if array.ndim == len(spec.shape) - 1 else array
    if array.dtype != spec.dtype or not _fits(batched, spec):
        raise DataError(f"{path}: '{spec.name}' is {array.dtype} {list(array.shape)}; {_wanted(spec, preprocess)}")
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise DataError(f"{path}: '{spec.name}' holds values that are not finite (NaN or infinity)")
    return np.ascontiguousarray(batched)


def _preprocessed(array: NDArray[Any], spec: TensorSpec, preprocess: Pixels, path: Path) -> NDArray[Any]:
    images = array[None] if array.ndim == 3 else array
    shape = _image_shape(spec, preprocess)
    if images.ndim != 4 or len(images) == 0 or any(a != b for a, b in zip(images.shape[1:], shape, strict=True) if b):
        raise DataError(f"{path}: '{spec.name}' is {array.dtype} {list(array.shape)}; {_wanted(spec, preprocess)}")
    if images.max() > preprocess.levels:
        raise DataError(
            f"{path}: pixels go up to {images.max()}; this model was made with images from 0 to {preprocess.levels:g}:"
            " scale them"
        )
    return preprocess.normalized(images)


def _fits(array: NDArray[Any], spec: TensorSpec) -> bool:
    """Whether it has the shape, free dimensions aside, and at least one sample."""
    if array.ndim != len(spec.shape) or array.size == 0:
        return False
    sizes = zip(array.shape, spec.shape, strict=True)
    batch, *rest = [size == wanted or isinstance(wanted, str) for size, wanted in sizes]
    return all(rest) and (batch or len(array) % int(spec.shape[0]) == 0)


def _image_shape(spec: TensorSpec, preprocess: Pixels) -> tuple[int, ...]:
    """Height, width and channels; 0 where the size is free. All free where the input is no image."""
    sizes = [size if isinstance(size, int) else 0 for size in spec.shape]
    if len(sizes) != 4:
        return (0, 0, 0)
    return (sizes[2], sizes[3], sizes[1]) if preprocess.layout == "NCHW" else tuple(sizes[1:])


def _wanted(spec: TensorSpec, preprocess: Preprocess | None) -> str:
    shape = "[" + ", ".join(map(str, spec.shape)) + "]"
    other = ""
    if isinstance(preprocess, Pixels) and len(spec.shape) == 4:
        other = " or 8-bit images [N, " + ", ".join(str(size or "any") for size in _image_shape(spec, preprocess)) + "]"
    if isinstance(preprocess, WordPiece):
        other = ", or a .txt with " + " <tab> ".join(preprocess.text.columns) + " in each line"
    return f"the model takes {spec.dtype} {shape}{other}"
