"""Run samples through a graph and hand out the values that are asked for, one batch at a time."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends import LOAD
from edgeprune.backends.backend import Feeds, Runner
from edgeprune.graph.cut import up_to
from edgeprune.graph.save import write_onnx
from edgeprune.registry import resolve

MOST_BYTES = 64 * 2**20
"""Of values that are held at once, unless one sample has more."""


def values(model: ir.Model, names: Collection[str], batches: Iterable[Feeds]) -> Iterator[dict[str, NDArray[Any]]]:
    """The values of these names, inputs of the graph among them, in parts of batches; nothing else is computed."""
    inputs = {str(value.name) for value in model.graph.inputs}
    computed = [name for name in names if name not in inputs]
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        file = Path(folder) / "observed.onnx"
        if computed:
            write_onnx(up_to(model, computed), file)
        for feeds, found in run(file, in_parts(file, batches)) if computed else ((feeds, {}) for feeds in batches):
            yield {name: feeds[name] if name in inputs else found[name] for name in names}


def in_parts(file: Path, batches: Iterable[Feeds]) -> Iterator[Feeds]:
    """The batches in parts, each so small that what the graph answers to it takes at most MOST_BYTES.

    Parts have the same size, whole batches or a power of two, but for the last of a batch: equal graphs, equal parts.
    """
    size = 0
    for feeds in batches:
        size = size or _part_size(file, feeds)
        for start in range(0, _size(feeds), size):
            yield {name: array[start : start + size] for name, array in feeds.items()}


def _part_size(file: Path, feeds: Feeds) -> int:
    """As many samples as the answers to the first allow."""
    (one,) = run(file, [{name: array[:1] for name, array in feeds.items()}])
    held = sum(array.nbytes for array in one[1].values())
    fit = max(MOST_BYTES // max(held, 1), 1)
    return _size(feeds) if fit >= _size(feeds) else 2 ** int(math.log2(fit))


def run(
    file: Path, batches: Iterable[Feeds], options: Mapping[str, str] | None = None
) -> Iterator[tuple[Feeds, dict[str, NDArray[Any]]]]:
    """Each batch with what the graph answers in ONNX Runtime; one of another size opens the graph again."""
    runner: Runner | None = None
    opened_for = 0
    try:
        for feeds in batches:
            if runner is None or _size(feeds) != opened_for:  # the last batch may be smaller
                if runner is not None:
                    runner.close()
                opened_for = _size(feeds)
                runner = resolve(LOAD, "ort", "backend")({"model": file}, options or {}, threads=1, batch=opened_for)
            yield feeds, runner.infer(feeds)
    finally:
        if runner is not None:
            runner.close()


def _size(feeds: Feeds) -> int:
    return len(next(iter(feeds.values())))
