"""Find the first layer at which two computations of one network part.

A layer is looked at where its kernel ends: behind the activation that runs along and, where it is quantized, the Q/DQ
pair behind that. So a runtime fuses up to there what it fuses in the whole network.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends import LOAD
from edgeprune.backends.backend import Feeds
from edgeprune.graph.cut import up_to
from edgeprune.graph.save import write_onnx
from edgeprune.interleaved.predict import FLOAT_QDQ
from edgeprune.registry import resolve

SAMPLES = 4
"""By which layers are compared."""
LEAST_DB, NARROW_DB = 12.0, 3.0
"""Of a layer's worst channel, and of one whose weights have 4 bits, which alone leave it less than 12."""
FALL_DB = 12.0
"""What one layer loses at least where it is at fault. Rounding that adds up loses less in each: in seven
networks of 8 bits 9 at most."""
CEILING_DB = 40.0
"""From where the first layer falls."""
MOST_DB = 300.0
ALONG = frozenset({"Relu", "Clip", "Add"})
"""What runs in the kernel of the layer before it."""


class Place(NamedTuple):
    """Where a layer is looked at."""

    layer: str
    value: str
    original: str
    """What that value is called in the float graph."""
    axis: int
    """Its dimension that counts channels."""


class Signal(NamedTuple):
    """How much of a layer is what it should be."""

    layer: str
    snr_db: float


def places(model: ir.Model, layers: Iterable[str]) -> tuple[Place, ...]:
    """Of the layers with these names, in the order they are computed."""
    wanted = set(layers)
    return tuple(_place(node) for node in model.graph if node.name in wanted)


def in_file(graph: ir.Model, said: ir.Model, layers: Iterable[str], given: Feeds) -> Iterator[Signal]:
    """What a file says of each layer that it has in common with the float graph, both computed in float."""
    known = ir.convenience.create_value_mapping(graph.graph)
    looked_at = [place for place in places(said, layers) if place.original in known]
    if looked_at:
        right = _values(graph, [place.original for place in looked_at], given)
        found = _values(said, [place.value for place in looked_at], given)
        for place in looked_at:
            yield Signal(place.layer, channel_snr_db(right[place.original], found[place.value], place.axis))


def in_runtime(
    said: ir.Model,
    layers: Iterable[str],
    backend: str,
    files: Mapping[str, Path],
    options: Mapping[str, str],
    given: Feeds,
) -> Iterator[Signal]:
    """What a runtime computes of each layer of a file beside what the file says of it.

    The file is cut behind one layer after the other: as outputs of one graph all layers would stay in float.
    """
    looked_at = places(said, layers)
    right = _values(said, [place.value for place in looked_at], given) if looked_at else {}
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        part = Path(folder) / "part.onnx"
        for place in looked_at:
            write_onnx(up_to(said, [place.value]), part)
            found = run({**files, "model": part}, options, backend, given)
            yield Signal(place.layer, channel_snr_db(right[place.value], found[place.value], place.axis))


def first_departing(signals: Iterable[Signal], narrow: Collection[str] = ()) -> Signal | None:
    """The first layer that loses what no rounding does; None where there is none. Takes no signal behind it.

    `narrow`: those whose weights were rounded to 4 bits.
    """
    worst = CEILING_DB
    for signal in signals:
        least = NARROW_DB if signal.layer in narrow else LEAST_DB
        if signal.snr_db < least and worst - signal.snr_db >= FALL_DB:
            return signal
        worst = min(worst, signal.snr_db)
    return None


def run(files: Mapping[str, Path], options: Mapping[str, str], backend: str, given: Feeds) -> dict[str, NDArray[Any]]:
    """What a runtime answers to samples [N, ...], or to as many of them as the file fixes."""
    batch = max(len(array) for array in given.values() if array.ndim)
    with resolve(LOAD, backend, "runtime")(files, options, threads=1, batch=batch) as runner:
        sizes = {spec.name: spec.shape[0] if spec.shape else None for spec in runner.inputs}
        found: dict[str, NDArray[Any]] = runner.infer({name: given[name][: sizes[name]] for name in sizes})
    return found


def channel_snr_db(reference: NDArray[Any], found: NDArray[Any], axis: int) -> float:
    """10 log10 of the mean channel's energy over that of the difference in the worst; within MOST_DB of 0.

    A fault in one channel of many hides in the mean of all differences; rounding is about the same in each.
    """
    if reference.shape != found.shape:
        return -MOST_DB
    channels = reference.shape[axis] if reference.ndim else 1
    right, other = (
        np.moveaxis(array.astype(np.float64), axis, 0).reshape(channels, -1) if array.ndim else array.reshape(1, 1)
        for array in (reference, found)
    )
    signal, noise = float(np.mean(right**2)), float(np.max(np.mean((right - other) ** 2, axis=1)))
    if not np.isfinite(noise):
        return -MOST_DB
    return float(np.clip(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-60)), -MOST_DB, MOST_DB))


def _place(node: ir.Node) -> Place:
    end, axis = node.outputs[0], 1 if node.op_type == "Conv" else -1
    while True:
        readers = end.consumers()
        quantize = next((one for one in readers if one.op_type == "QuantizeLinear"), None)
        restored = quantize.outputs[0].consumers() if quantize is not None else ()
        if len(restored) == 1 and restored[0].op_type == "DequantizeLinear":
            return Place(str(node.name), str(restored[0].outputs[0].name), str(end.name).removesuffix("/float"), axis)
        if len(readers) != 1 or readers[0].op_type not in ALONG:
            return Place(str(node.name), str(node.outputs[0].name), str(node.outputs[0].name), axis)
        end = readers[0].outputs[0]


def _values(model: ir.Model, names: Sequence[str], given: Feeds) -> dict[str, NDArray[Any]]:
    """Values in a graph, computed as it says."""
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        file = Path(folder) / "values.onnx"
        write_onnx(up_to(model, dict.fromkeys(names)), file)
        return run({"model": file}, FLOAT_QDQ, "ort", given)
