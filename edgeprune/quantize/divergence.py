"""Measure what quantization costs: run the graph with one layer quantized and compare with what it answers in float.

This needs no module and assumes no shape of the loss. But every layer takes runs of its own, so there are few samples
for each: the same for all, so that layers can be compared, and mostly those that the float model is unsure of, where
an error shows. What is drawn counts by one over its chance (Horvitz and Thompson, "A Generalization of Sampling Without
Replacement from a Finite Universe", 1952).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
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
from edgeprune.quantize.candidates import Candidates
from edgeprune.quantize.constants import array
from edgeprune.quantize.likelihood import Likelihood, divergence_of
from edgeprune.quantize.one_quantized import OneQuantized
from edgeprune.quantize.sensitivity import PRECISIONS, LayerSensitivity, Sensitivity
from edgeprune.quantize.spec import Range
from edgeprune.registry import resolve

BATCH = 32
PASSES = 3
"""As many forward passes over all samples may be spent, one of them in float."""


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

    `feeds`: samples [N, ...] of each input, of which the last few may be left out; `likelihoods`: of the outputs that
    count; `ranges`: those of a calibration, where inputs are to be quantized too. There are at most `passes` x N runs,
    or one for each layer and precision where that is more.
    """
    layers = {layer.weight: layer for layer in weighted_layers(model)}
    pairs = [(weight, precision) for weight in layers for precision in PRECISIONS]
    parts, size = _even_parts(len(next(iter(feeds.values()))))
    samples = parts * size
    z, powers = _in_float(model, feeds, list(layers.values()), parts, size)
    count = min(int((passes - 1) * samples / len(pairs)), samples)
    chances = _chances(z, likelihoods) if count < samples else np.full(samples, 1 / samples)
    drawn = _draw(chances, *_even_parts(max(count, 1)), random)

    losses = dict.fromkeys(pairs, 0.0)
    with (
        progress.task("sensitivity", total=len(pairs)) as task,
        OneQuantized(model, candidates, ranges, batch=drawn.shape[1]) as graph,
    ):
        for weight, precision in pairs:
            for rows in drawn:
                other = graph.outputs({name: x[rows] for name, x in feeds.items()}, weight, precision)
                each = divergence_of(likelihoods, {name: one[rows] for name, one in z.items()}, other)
                losses[weight, precision] += float((each / chances[rows]).sum()) / (drawn.size * samples)
            task.advance()

    found = {}
    for weight, layer in layers.items():
        of_layer = {precision: losses[weight, precision] for precision in PRECISIONS}
        of_channels = {
            precision: loss * _shares(model, layer, candidates, precision, powers.get(weight))
            for precision, loss in of_layer.items()
        }
        found[weight] = LayerSensitivity(of_layer, of_channels["int4"] - of_channels["int8"])
    return Sensitivity(found, "divergence", samples + drawn.size * len(pairs))


def _even_parts(count: int) -> tuple[int, int]:
    """How many parts of how many samples, at most BATCH, hold nearly all: runs of one size share a session."""
    parts = -(-count // BATCH)
    return parts, count // parts


def _in_float(
    model: ir.Model, feeds: Feeds, layers: Sequence[WeightedLayer], parts: int, size: int
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.float64]]]:
    """What the model answers, and E[x_i^2] of the input of each layer that multiplies it, by weight."""
    products = {layer.weight: layer for layer in layers if layer.op in PRODUCTS}
    answers: dict[str, list[NDArray[Any]]] = {str(value.name): [] for value in model.graph.outputs}
    powers: dict[str, list[NDArray[np.float64]]] = {weight: [] for weight in products}
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        file = Path(folder) / "float.onnx"
        write_onnx(_with_outputs(model, [layer.input for layer in products.values()]), file)
        with resolve(LOAD, "ort", "backend")({"model": file}, {}, threads=1, batch=size) as runner:
            for start in range(0, parts * size, size):
                given = {name: x[start : start + size] for name, x in feeds.items()}
                values = {**given, **runner.infer(given)}
                for name, found in answers.items():
                    found.append(values[name])
                for weight, layer in products.items():
                    powers[weight].append(_power(values[layer.input], channels=1 if layer.op == "Conv" else -1))
    return (
        {name: np.concatenate(found) for name, found in answers.items()},
        {weight: np.mean(found, axis=0) for weight, found in powers.items()},
    )


def _with_outputs(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """The same graph, which also gives these values."""
    watched = model.clone()
    values = ir.convenience.create_value_mapping(watched.graph)
    present = {value.name for value in (*watched.graph.inputs, *watched.graph.outputs)}
    watched.graph.outputs.extend(values[name] for name in dict.fromkeys(names) if name not in present)
    return watched


def _power(x: NDArray[Any], channels: int) -> NDArray[np.float64]:
    """The mean square of each channel."""
    squares = np.moveaxis(x.astype(np.float64) ** 2, channels, 0)
    mean: NDArray[np.float64] = squares.reshape(len(squares), -1).mean(axis=1)
    return mean


def _chances(z: Mapping[str, NDArray[Any]], likelihoods: Mapping[str, Likelihood]) -> NDArray[np.float64]:
    """Of each sample to be the next one drawn, [N]: at least half of what all would have, so that none counts much."""
    traces = np.sum([one.trace(z[name]) for name, one in likelihoods.items()], axis=0)
    chances: NDArray[np.float64] = (traces / traces.mean() + 1) / (2 * len(traces))
    return chances


def _draw(chances: NDArray[np.float64], parts: int, size: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Numbers of samples [parts, size], spread evenly over their summed chances."""
    ends = np.cumsum(chances) / chances.sum()
    points = (np.arange(parts * size) + random.random()) / (parts * size)
    return np.minimum(np.searchsorted(ends, points, side="right"), len(ends) - 1).reshape(parts, size)


def _shares(
    model: ir.Model,
    layer: WeightedLayer,
    candidates: Candidates,
    precision: str,
    power: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """What part of a layer's loss falls to each output channel c, [C]: that of the noise its errors make.

    The noise is sum_i delta_ci^2 E[x_i^2], with E[x_i^2] = 1 where the layer does not multiply its input.
    """
    noise = np.zeros(layer.weight_shape[layer.axis])
    for weight in layer.weights:
        delta = candidates[weight][precision] - array(model.graph.initializers[weight])
        squares = np.moveaxis(delta.astype(np.float64) ** 2, layer.axis, 0)
        if power is not None:
            of_inputs = power.reshape(layer.groups, -1).repeat(len(squares) // layer.groups, axis=0)
            squares = squares.reshape(*of_inputs.shape, -1).sum(axis=2) * of_inputs
        noise += squares.reshape(len(squares), -1).sum(axis=1)
    total = noise.sum()
    return noise / total if total else noise
