"""The seam to a runtime: a host side that lowers and explains, a device side that runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from edgeprune.errors import DataError
from edgeprune.tensor import TensorSpec

if TYPE_CHECKING:  # the device side needs neither pydantic nor YAML
    from edgeprune.targets.target import Target

Feeds = Mapping[str, NDArray[Any]]


def check_feeds(inputs: Sequence[TensorSpec], feeds: Feeds) -> None:
    """Refuse what a runtime would convert, broadcast or crash on. Raises DataError naming the input.

    It stands in every timed inference of every runtime, so it only compares.
    """
    if len(feeds) != len(inputs):
        raise DataError(f"inputs {sorted(feeds)} given; the model takes {[spec.name for spec in inputs]}")
    for spec in inputs:
        array = feeds.get(spec.name)
        if array is None:
            raise DataError(f"inputs {sorted(feeds)} given; the model takes {[spec.name for spec in inputs]}")
        if array.shape != spec.shape or array.dtype != spec.dtype:
            raise DataError(
                f"input '{spec.name}' is {array.dtype} {list(array.shape)}; the model takes "
                f"{spec.dtype} {list(spec.shape)}"
            )


class Runner(Protocol):
    """A loaded engine. Device side: its module imports the standard library, NumPy and one runtime."""

    inputs: tuple[TensorSpec, ...]
    """With the batch it was opened for."""
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def infer(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Run once. Raises DataError where a name, dtype or shape does not fit."""
        ...

    def evidence(self) -> dict[str, Any]:
        """What the runtime says it executed, as JSON-ready data; `profile` on the host interprets it."""
        ...

    def close(self) -> None:
        """Give the runtime's memory and files back."""
        ...

    def __enter__(self) -> Runner: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Load(Protocol):
    """Open the files of a variant on this device."""

    def __call__(self, files: Mapping[str, Path], options: Mapping[str, str], *, threads: int, batch: int) -> Runner:
        """`files` by role (`model`: the ONNX file); `options` as `lower` wrote them; free dimensions become `batch`.

        Raises MissingError where the runtime is not installed, CorruptError where the file cannot be parsed.
        """
        ...


@dataclass(frozen=True)
class Lowered:
    """What lowering leaves in its folder."""

    files: dict[str, Path]
    """By role: `model` is the ONNX file in the runtime's flavour, `build` the on-device build as data."""
    options: dict[str, str] = field(default_factory=dict)
    """How the runtime must open them, e.g. `{"INFERENCE_PRECISION_HINT": "f32"}`; handed to `Load` unchanged."""


class Lower(Protocol):
    """Turn an ONNX file (already in the runtime's Q/DQ flavour) into what travels to the device. Host side."""

    def __call__(self, model_file: Path, target: Target, precision: str, out: Path) -> Lowered:
        """Write into the folder `out`. Raises ModelError naming the node that the runtime would refuse."""
        ...
