"""The seam to a runtime: a host side that lowers and explains, a device side that runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import DataError
from edgeprune.tensor import TensorSpec

if TYPE_CHECKING:  # the device side needs neither pydantic nor YAML
    from edgeprune.targets.target import Target

Feeds = Mapping[str, NDArray[Any]]


def check_feeds(inputs: Sequence[TensorSpec], feeds: Feeds) -> None:
    """Refuse what a runtime would convert, broadcast or crash on. Raises DataError naming the input.

    A free dimension takes any size, but the same wherever its name stands. This stands in every timed inference of
    every runtime, so it only compares.
    """
    if len(feeds) != len(inputs):
        raise DataError(f"inputs {sorted(feeds)} given; the model takes {[spec.name for spec in inputs]}")
    sizes: dict[str, int] = {}
    for spec in inputs:
        array = feeds.get(spec.name)
        if array is None:
            raise DataError(f"inputs {sorted(feeds)} given; the model takes {[spec.name for spec in inputs]}")
        if array.dtype != spec.dtype or (array.shape != spec.shape and not _fits(array.shape, spec.shape, sizes)):
            wanted = ", ".join(map(str, spec.shape))
            known = ", ".join(f"{name} is {size}" for name, size in sizes.items() if name in spec.shape)
            raise DataError(
                f"input '{spec.name}' is {array.dtype} {list(array.shape)}; the model takes "
                f"{spec.dtype} [{wanted}]{known and f', where {known}'}"
            )


def midmean(numbers: Sequence[float]) -> float:
    """The mean of the middle half: no outlier moves it, and it resolves more than whole numbers."""
    ordered = np.sort(numbers)
    quarter = len(ordered) // 4
    return float(np.mean(ordered[quarter : len(ordered) - quarter]))


def shown(feeds: Feeds) -> str:
    """The inputs and their sizes in one line: `ids int64 [1, 7], mask int64 [1, 7]`."""
    return ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in feeds.items())


def batched_spec(name: str, dtype: str, shape: Sequence[int | str | None], batch: int) -> TensorSpec:
    """An input as it is opened: a free leading dimension is the batch; another without a name is `<input>_<axis>`."""
    sizes = [f"{name}_{axis}" if size is None else size for axis, size in enumerate(shape)]
    lead = [batch if isinstance(size, str) else size for size in sizes[:1]]
    return TensorSpec(name, dtype, (*lead, *sizes[1:]))


def _fits(shape: tuple[int, ...], wanted: tuple[int | str, ...], sizes: dict[str, int]) -> bool:
    """Whether a shape has the wanted sizes, and at a free dimension the one in `sizes`, noted there where it is new."""
    if len(shape) != len(wanted):
        return False
    for size, want in zip(shape, wanted):  # noqa: B905  # a loop, and not strict: half the time of `all`
        if size != want and (isinstance(want, int) or sizes.setdefault(want, size) != size):
            return False
    return True


@dataclass(frozen=True)
class Compilation:
    """What a runtime made of a model for this very device, apart from reading it: kernels chosen, an engine built."""

    ms: float
    cached: bool
    """Whether it had been made before, and was found."""


class Runner(Protocol):
    """A loaded engine. Device side: its module imports the standard library, NumPy and one runtime."""

    inputs: tuple[TensorSpec, ...]
    """With the batch it was opened for as leading dimension, where that is free; a str is a dimension of any size."""
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    compilation: Compilation | None
    """None where it is no step of its own, or was made by `BUILD` before."""
    device_bytes: int | None
    """Memory that it holds on a device of its own, a GPU; None where there is none but the host's."""

    def infer(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Run once. Raises DataError where a name, dtype or shape does not fit."""
        ...

    def evidence(self) -> dict[str, Any]:
        """What the runtime says it executed, as JSON-ready data; `profile` on the host interprets it."""
        ...

    def profile(self, batches: Sequence[Feeds], seconds: float) -> dict[str, Any]:
        """The evidence with the time of every node that was executed, over about `seconds` with these inputs in turn.

        Each of its nodes has `us`: microseconds of one inference, where they are cut off and not rounded with the half
        that is missing on average. Measuring takes time itself, so the sum is more than an inference takes.
        """
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
        """`files` by role (`model`: the ONNX file); `options` as `lower` wrote them.

        A free leading dimension of an input becomes `batch`; a fixed one stays, and so do free ones behind it.
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
    unproven: str = ""
    """Why nobody knows whether the target's runtime takes them; empty where it is known to."""


class Lower(Protocol):
    """Turn an ONNX file (already in the runtime's Q/DQ flavour) into what travels to the device. Host side."""

    def __call__(self, model_file: Path, target: Target, precision: str, out: Path) -> Lowered:
        """Write into the folder `out`. Raises ModelError naming the node that the runtime would refuse."""
        ...
