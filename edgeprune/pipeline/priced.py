"""What the layers of a network would cost in milliseconds with fewer channels, as a latency table foretells it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from edgeprune.cache import Stage
from edgeprune.errors import ConfigError
from edgeprune.graph.layers import RECURRENT, WeightedLayer, weighted_layers
from edgeprune.graph.load import read_onnx
from edgeprune.graph.operators import CHANNELS_SECOND, Operator, operators
from edgeprune.latency_table import Key, LatencyTable, read_table
from edgeprune.pipeline.artifact import MODEL
from edgeprune.pipeline.job import Job
from edgeprune.pipeline.quantization import first_backend
from edgeprune.prune.cost import Price
from edgeprune.recipe import kernels


def prices(job: Job, exported: Stage) -> tuple[Price, ...]:
    """A price for each operator of the dense graph, in the recipe's precision on the first backend.

    t(layer) is that of its operator with fewer channels in and out, and in front of its shapes nothing else changes; an
    operator without weights keeps the time that it has. Raises ConfigError where the table knows nothing of one.
    """
    path = job.recipe.latency_table
    assert path is not None
    table, graph = read_table(path), read_onnx(exported.folder / MODEL)
    layers = {layer.name: layer for layer in weighted_layers(graph)}
    runtime, precision = first_backend(job), kernels(job.recipe.quantize.precision)
    found = operators(graph)
    network_bytes = sum(one.weight_bytes(precision) for one in found)
    return tuple(_price(one, layers.get(one.name), table, runtime, precision, network_bytes) for one in found)


def _price(
    operator: Operator,
    layer: WeightedLayer | None,
    table: LatencyTable,
    runtime: str,
    precision: str,
    network_bytes: int,
) -> Price:
    module = "" if layer is None else layer.weight.rpartition(".")[0]

    def ms(lost: Sequence[int]) -> float:
        narrow = operator if layer is None else _narrowed(operator, layer, lost[0], lost[1])
        key = Key(runtime, narrow.kind, narrow.shapes, precision)
        answer = table.lookup(key, narrow.work(precision), network_bytes)
        if answer is None:
            raise ConfigError(
                f"latency_table: nothing is known there of {narrow.kind} in {precision} with {runtime}: measure a"
                " network like this one with `edgeprune bench BUNDLE --operators`"
            )
        return answer.ms

    return Price(module, () if layer is None else ((module, "out"), (module, "in")), ms)


def _narrowed(operator: Operator, layer: WeightedLayer, out: int, into: int) -> Operator:
    """The same operator with so many channels less."""
    before, after = ([int(size) for size in side.split("x")] for side in operator.shapes.split(" > "))
    second = layer.op in CHANNELS_SECOND
    places = (1 if second else -1, 1 if second else -1)
    wide_in, wide_out = before[places[0]], after[places[1]]
    depthwise = layer.groups > 1 and layer.depthwise
    before[places[0]] -= out if depthwise else into * layer.groups
    after[places[1]] -= out if depthwise else out * layer.groups
    part = after[places[1]] / wide_out * (1 if depthwise else before[places[0]] / wide_in)
    if layer.op in RECURRENT:  # the hidden units multiply what is given, and themselves
        part = after[-1] * (before[-1] + after[-1]) / (wide_out * (wide_in + wide_out))
    return replace(
        operator,
        shapes=f"{'x'.join(map(str, before))} > {'x'.join(map(str, after))}",
        macs=round(operator.macs * part),
        weights=round(operator.weights * part),
        numbers=math.prod(before) + math.prod(after),
        channels=after[places[1]],
    )
