"""Measure what quantization costs: run the graph with one layer quantized and compare with what it answers in float.

This needs no module and assumes no shape of the loss. But every layer takes runs of its own, so there are few samples
for each: the same for all, so that layers can be compared, and mostly those that the float model is unsure of, where
an error shows. What is drawn counts by one over its chance (Horvitz and Thompson, "A Generalization of Sampling Without
Replacement from a Finite Universe", 1952).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends import LOAD
from edgeprune.backends.backend import Feeds
from edgeprune.graph.layers import PRODUCTS, WeightedLayer, weighted_layers
from edgeprune.graph.save import write_onnx
from edgeprune.progress import SILENT, Progress
from edgeprune.quantize.constants import array
from edgeprune.quantize.sensitivity.candidates import Candidates
from edgeprune.quantize.sensitivity.likelihood import Likelihood, Outputs, divergence_of
from edgeprune.quantize.sensitivity.one_quantized import OneQuantized
from edgeprune.quantize.sensitivity.sensitivity import PRECISIONS, LayerSensitivity, Sensitivity
from edgeprune.quantize.spec import Range
from edgeprune.registry import resolve

BATCH = 32
PASSES = 3
"""As many forward passes over all samples may be spent, one of them in float."""
LEAST = 0.1
"""What a sample that the model is sure of keeps of an equal chance: so none counts more than ten times."""


def divergence(
    model: ir.Model,
    feeds: Feeds,
    candidates: Candidates,
    likelihoods: Mapping[str, Likelihood],
    random: np.random.Generator,
    *,
    ranges: Mapping[str, Range] | None = None,
    passes: float = PASSES,
    progress: Progress = SILENT,
) -> Sensitivity:
    """Of every layer: the divergence from the float model, as a mean over samples.

    `feeds`: samples [N, ...] of each input; `likelihoods`: of the outputs that count; `ranges`: those of a calibration,
    where inputs are to be quantized too. There are `passes` x N runs, or N and one for each layer and precision where
    that is more.
    """
    layers = {layer.weight: layer for layer in weighted_layers(model)}
    samples = len(next(iter(feeds.values())))
    z, powers = _in_float(model, feeds, layers.values())
    spent = _parts(np.arange(samples)).size
    count = max(int((passes * samples - spent) / (len(layers) * len(PRECISIONS))), 1)
    if count >= samples:
        rows, chances = np.arange(samples), np.full(samples, 1 / samples)
    else:
        chances = _chances(z, likelihoods)
        rows = _draw(chances, count, random)

    found = {}
    exact = {name: one[rows] for name, one in z.items()}
    with (
        progress.task("sensitivity", total=len(layers)) as task,
        OneQuantized(model, candidates, ranges, batch=_parts(rows).shape[1]) as graph,
    ):
        for weight, layer in layers.items():
            losses = {}
            for precision in PRECISIONS:
                other = _run(partial(graph.outputs, weight=weight, precision=precision), feeds, rows)
                each = divergence_of(likelihoods, exact, other)
                losses[precision] = float((each / chances[rows]).mean()) / samples
            int8, int4 = (losses[one] * _shares(model, layer, candidates, one, powers) for one in ("int8", "int4"))
            found[weight] = LayerSensitivity(losses, int4 - int8)
            task.advance()
    return Sensitivity(found, "divergence", spent + _parts(rows).size * len(layers) * len(PRECISIONS))


def _parts(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Samples in parts of one size, as a session takes, [parts, at most BATCH]; the first fill up the last part."""
    parts = -(-len(rows) // BATCH)
    return np.resize(rows, (parts, -(-len(rows) // parts)))


def _run(answer: Callable[[Feeds], Outputs], feeds: Feeds, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """What is answered to these samples."""
    found = [answer({name: x[part] for name, x in feeds.items()}) for part in _parts(rows)]
    return {name: np.concatenate([one[name] for one in found])[: len(rows)] for name in found[0]}


def _in_float(
    model: ir.Model, feeds: Feeds, layers: Iterable[WeightedLayer]
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.float64]]]:
    """What the model answers, and E[x_i^2] of the input of each layer that multiplies it, by weight."""
    products = [layer for layer in layers if layer.op in PRODUCTS]
    outputs = {str(value.name) for value in model.graph.outputs}
    rows = np.arange(len(next(iter(feeds.values()))))
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        file = Path(folder) / "float.onnx"
        write_onnx(_with_outputs(model, [layer.input for layer in products]), file)
        batch = _parts(rows).shape[1]
        with resolve(LOAD, "ort", "backend")({"model": file}, {}, threads=1, batch=batch) as runner:

            def answer(given: Feeds) -> dict[str, NDArray[Any]]:
                values = {**given, **runner.infer(given)}
                squares = {one.weight: _powers(values[one.input], 1 if one.op == "Conv" else -1) for one in products}
                return {**{name: values[name] for name in outputs}, **squares}

            found = _run(answer, feeds, rows)
    powers = {layer.weight: found.pop(layer.weight).mean(axis=0) for layer in products}
    return found, powers


def _with_outputs(model: ir.Model, names: Iterable[str]) -> ir.Model:
    """The same graph, which also gives these values."""
    watched = model.clone()
    values = ir.convenience.create_value_mapping(watched.graph)
    present = {value.name for value in (*watched.graph.inputs, *watched.graph.outputs)}
    watched.graph.outputs.extend(values[name] for name in dict.fromkeys(names) if name not in present)
    return watched


def _powers(x: NDArray[Any], axis: int) -> NDArray[np.float64]:
    """The mean square of each channel of each sample, [N, C]."""
    squares = np.moveaxis(x.astype(np.float64) ** 2, axis, 1)
    mean: NDArray[np.float64] = squares.reshape(*squares.shape[:2], -1).mean(axis=2)
    return mean


def _chances(z: Outputs, likelihoods: Mapping[str, Likelihood]) -> NDArray[np.float64]:
    """Of each sample to be the next one drawn, [N]."""
    traces = np.sum([one.trace(z[name]) for name, one in likelihoods.items()], axis=0)
    chances: NDArray[np.float64] = ((1 - LEAST) * traces / traces.mean() + LEAST) / len(traces)
    return chances


def _draw(chances: NDArray[np.float64], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Numbers of samples [count], spread evenly over their summed chances."""
    ends = np.cumsum(chances) / chances.sum()
    points = (np.arange(count) + random.random()) / count
    return np.minimum(np.searchsorted(ends, points, side="right"), len(ends) - 1)


def _shares(
    model: ir.Model,
    layer: WeightedLayer,
    candidates: Candidates,
    precision: str,
    powers: Mapping[str, NDArray[np.float64]],
) -> NDArray[np.float64]:
    """What part of a layer's loss falls to each output channel c, [C]: that of the noise its errors make.

    The noise is sum_i delta_ci^2 E[x_i^2], with E[x_i^2] = 1 where the layer does not multiply its input.
    """
    noise = np.zeros(layer.weight_shape[layer.axis])
    for weight in layer.weights:
        delta = candidates[weight][precision] - array(model.graph.initializers[weight])
        squares = np.moveaxis(delta.astype(np.float64) ** 2, layer.axis, 0)
        if layer.weight in powers:
            of_inputs = powers[layer.weight].reshape(layer.groups, -1).repeat(len(squares) // layer.groups, axis=0)
            squares = squares.reshape(*of_inputs.shape, -1).sum(axis=2) * of_inputs
        noise += squares.reshape(len(squares), -1).sum(axis=1)
    total = noise.sum()
    return noise / total if total else noise
