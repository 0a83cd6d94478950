"""Arrays that are a model's inputs already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgeprune.data.preprocess import Columns
from edgeprune.errors import CorruptError, DataError
from edgeprune.tensor import TensorSpec, shown


@dataclass(frozen=True)
class Tensors:
    """Nothing is done to them."""

    specs: tuple[TensorSpec, ...]
    """What there is by the model's own names, with a free `batch` in front."""

    def __call__(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """The arrays [N, ...] as they are. Raises DataError where one is missing or has another shape or type."""
        found = {}
        for spec in self.specs:
            if spec.name not in columns:
                raise DataError(f"array '{spec.name}' is needed: there is {', '.join(columns)}")
            array = columns[spec.name]
            if array.dtype != spec.dtype or array.shape[1:] != spec.shape[1:]:
                raise DataError(f"array '{spec.name}' is {array.dtype} {list(array.shape)}, not {shown(spec)}")
            found[spec.name] = array
        return found

    def to_json(self) -> dict[str, Any]:
        """What `preprocess.json` of a bundle holds."""
        return {"kind": "tensors", "inputs": [[one.name, one.dtype, list(one.shape)] for one in self.specs]}

    def save(self, folder: Path) -> None:
        """Nothing lies beside the JSON."""

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], folder: Path) -> Tensors:
        """Read what `to_json` wrote. Raises CorruptError."""
        try:
            inputs = [(str(name), str(dtype), shape) for name, dtype, shape in raw["inputs"]]
            sizes = [tuple(size if isinstance(size, str) else int(size) for size in shape) for _, _, shape in inputs]
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptError(f"{folder}: preprocess: {type(error).__name__} {error}: inputs are needed") from error
        return cls(tuple(TensorSpec(name, dtype, size) for (name, dtype, _), size in zip(inputs, sizes, strict=True)))
