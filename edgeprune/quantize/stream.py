"""Run samples through a graph and hand out the values that are asked for, one batch at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from edgeprune.backends import LOAD
from edgeprune.backends.backend import Feeds, Runner
from edgeprune.graph.save import write_onnx
from edgeprune.registry import resolve


def values(model: ir.Model, names: Collection[str], batches: Iterable[Feeds]) -> Iterator[dict[str, NDArray[Any]]]:
    """For each batch the values of these names, inputs of the graph among them; nothing else is computed."""
    inputs = {str(value.name) for value in model.graph.inputs}
    computed = [name for name in names if name not in inputs]
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        file = Path(folder) / "observed.onnx"
        if computed:
            write_onnx(_only(model, computed), file)
        for feeds, found in run(file, batches) if computed else ((feeds, {}) for feeds in batches):
            yield {name: feeds[name] if name in inputs else found[name] for name in names}


def _only(model: ir.Model, names: Iterable[str]) -> ir.Model:
    """The model with these values as its outputs, and what they need."""
    partial = model.clone()
    wanted = ir.convenience.create_value_mapping(partial.graph)
    partial.graph.outputs.clear()
    partial.graph.outputs.extend(wanted[name] for name in names)
    return common.RemoveUnusedNodesPass()(partial).model


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
