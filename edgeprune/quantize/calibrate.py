"""Run real samples through a model and note which range each value takes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends.backend import Feeds
from edgeprune.errors import DataError
from edgeprune.file_hash import sha256_of
from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.load import HEAVY_BYTES, give_back, read_onnx
from edgeprune.graph.save import write_onnx
from edgeprune.progress import SILENT, Progress
from edgeprune.quantize import checkpoint as checkpoints
from edgeprune.quantize.emission.placement import place
from edgeprune.quantize.observers import OBSERVERS
from edgeprune.quantize.observers.observer import Observer
from edgeprune.quantize.spec import Range
from edgeprune.quantize.stream import in_parts, run
from edgeprune.registry import resolve

FEWEST_SAMPLES = 16
"""Below this a range says more about the samples than about the data."""
CHECKPOINT_EVERY = 8
"""Batches, after which what was seen is saved."""


def calibrate(
    model_file: Path,
    batches: Iterable[Feeds],
    *,
    observer: str = "minmax",
    checkpoint: Path | None = None,
    progress: Progress = SILENT,
) -> dict[str, Range]:
    """Return the range of every value that is quantized when all layers are.

    A part of a batch is in memory at a time, with the values it causes. After a kill, the same call with the same
    `checkpoint` file goes on with the batch after the last one saved, to the same end. Raises DataError where there are
    too few samples, and where a value is never other than zero, NaN or infinite, naming it.
    """
    model = read_onnx(model_file)
    names = place(model, {layer.weight for layer in weighted_layers(model)}, add_absorbs=False).own
    job = {"model": sha256_of(model_file), "observer": observer}
    new: Callable[[], Observer] = resolve(OBSERVERS, observer, "observer")
    seen = (checkpoints.load(checkpoint, names, new, job, progress) if checkpoint else None) or checkpoints.Seen(
        {name: new() for name in names}
    )
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder, progress.task("calibrate") as task:
        file = Path(folder) / "observed.onnx"
        write_onnx(_with_outputs(model, names), file)
        del model
        if file.stat().st_size >= HEAVY_BYTES:
            give_back()
        task.advance(seen.samples)

        def unseen() -> Iterator[Feeds]:
            for batch in islice(batches, seen.batches, None):
                yield batch
                seen.batches += 1  # the next one is asked for when all parts of this one were observed
                if checkpoint and seen.batches % CHECKPOINT_EVERY == 0:
                    checkpoints.save(checkpoint, seen, job)

        for feeds, outputs in run(file, in_parts(file, unseen())):
            for name, one in seen.observers.items():
                one.observe(_finite(feeds[name] if name in feeds else outputs[name], name))
            seen.samples += _size(feeds)
            task.advance(_size(feeds))
    if seen.samples < FEWEST_SAMPLES:
        raise DataError(
            f"{seen.samples} calibration samples: at least {FEWEST_SAMPLES} are needed, some hundreds are usual"
        )
    return {name: _not_zero(one.range(), name) for name, one in seen.observers.items()}


def _with_outputs(model: ir.Model, names: Iterable[str]) -> ir.Model:
    """The model with these values among its outputs."""
    graph = model.graph
    values = ir.convenience.create_value_mapping(graph)
    present = {value.name for value in (*graph.inputs, *graph.outputs)}
    graph.outputs.extend(values[name] for name in names if name not in present)
    return model


def _size(feeds: Feeds) -> int:
    return len(next(iter(feeds.values())))


def _finite(x: NDArray[Any], name: str) -> NDArray[Any]:
    flat = x.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        energy = np.dot(flat, flat)  # one pass; infinite, too, where squares overflow
    if not np.isfinite(energy) and not np.isfinite(x).all():
        raise DataError(
            f"'{name}' becomes NaN or infinite on the calibration samples: check the weights and the preprocessing"
        )
    return x


def _not_zero(found: Range, name: str) -> Range:
    if found.low == found.high == 0:
        raise DataError(
            f"'{name}' is zero on every calibration sample: the samples do not fit the model, or the layer is dead"
        )
    return found
