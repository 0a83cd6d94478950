"""The seam to preprocessing: what is done to stored samples before a model sees them, as data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import CorruptError, DataError
from edgeprune.registry import resolve
from edgeprune.tensor import TensorSpec, shown, stand_in

FILE = "preprocess.json"
KINDS = {
    "image": "edgeprune.data.pixels:Pixels",
    "text": "edgeprune.data.wordpiece:WordPiece",
    "tensors": "edgeprune.data.tensors:Tensors",
}

Columns = Mapping[str, NDArray[Any]]


class Preprocess(Protocol):
    """From columns of samples to the tensors of a model."""

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """What it gives, with a free `batch` in front; a model takes all of it or some."""
        ...

    def __call__(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """The tensors by name. Raises DataError where a column is missing or does not fit."""
        ...

    def to_json(self) -> dict[str, Any]:
        """What `preprocess.json` of a bundle holds; `kind` is a key of KINDS."""
        ...

    def save(self, folder: Path) -> None:
        """Write into a bundle what `to_json` refers to, e.g. a tokenizer."""
        ...

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], folder: Path) -> Preprocess:
        """Read what `to_json` and `save` wrote. Raises CorruptError."""
        ...


def write_preprocess(preprocess: Preprocess, folder: Path) -> None:
    """Put it into a bundle."""
    (folder / FILE).write_text(json.dumps(preprocess.to_json(), indent=1) + "\n", encoding="utf-8")
    preprocess.save(folder)


def read_preprocess(folder: Path) -> Preprocess | None:
    """What a bundle does to samples; None where it has no such file. Raises CorruptError."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_bytes())
        kind = str(raw["kind"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{path}: no JSON that says its kind: compile again") from error
    if kind not in KINDS:
        raise CorruptError(f"{path}: kind {kind!r}, this version knows {', '.join(KINDS)}: compile again")
    read: Preprocess = resolve(KINDS, kind, "preprocessing").from_json(raw, folder)
    return read


def feeds(
    inputs: Sequence[TensorSpec], tensors: Mapping[str, NDArray[Any]], what: str = "the data"
) -> dict[str, NDArray[Any]]:
    """What a model takes of the tensors that preprocessing gives, by the model's own names.

    Tensors go by name; where both sides have just one, the names may differ, and where all but one of the inputs of a
    text have theirs. Integers may become narrower ones where every value fits. Raises DataError naming the input that
    nothing fits.
    """
    by_name = {chosen.name: name for chosen, name in matched(inputs, tensors, what)}
    return {spec.name: _fitted(tensors[by_name[spec.name]], spec, what) for spec in inputs}


def matched(
    inputs: Sequence[TensorSpec], names: Mapping[str, object] | Sequence[str], what: str
) -> list[tuple[TensorSpec, str]]:
    """Each input with the name of the tensor that feeds it. Raises DataError for an input that none does."""
    given = list(names)
    if len(inputs) == len(given) == 1:
        return [(inputs[0], given[0])]
    other = stand_in([spec.name for spec in inputs], given)
    pairs = []
    for spec in inputs:
        is_tokens = len(spec.shape) == 2 and np.issubdtype(spec.dtype, np.integer)
        source = other.get(spec.name, spec.name) if is_tokens else spec.name
        if source not in given:
            raise DataError(f"{what}: nothing feeds the model's input '{spec.name}': there is {', '.join(given)}")
        pairs.append((spec, source))
    return pairs


def fits(given: TensorSpec, wanted: TensorSpec) -> bool:
    """Whether a tensor of one kind can be fed where another is wanted; a free dimension fits any size."""
    if len(given.shape) != len(wanted.shape) or not _converts(given.dtype, wanted.dtype):
        return False
    sizes = zip(given.shape, wanted.shape, strict=True)
    return all(isinstance(a, str) or isinstance(b, str) or a == b for a, b in sizes)


def _fitted(array: NDArray[Any], spec: TensorSpec, what: str) -> NDArray[Any]:
    sizes = [str(size) for size in array.shape]
    given = TensorSpec(spec.name, array.dtype.name, tuple(array.shape))
    if not fits(given, spec):
        raise DataError(
            f"{what}: '{spec.name}' would get {array.dtype} [{', '.join(sizes)}], the model takes {shown(spec)}"
        )
    if array.dtype == spec.dtype:
        return array
    info = np.iinfo(spec.dtype)
    if array.size and not (info.min <= array.min() and array.max() <= info.max):
        raise DataError(f"{what}: '{spec.name}' goes up to {array.max()}, too large for {spec.dtype}")
    return array.astype(spec.dtype)


def _converts(given: str, wanted: str) -> bool:
    if given == wanted:
        return True
    return np.issubdtype(given, np.integer) and np.issubdtype(wanted, np.integer)
