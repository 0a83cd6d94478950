"""What a latency table says of a target that is not at hand: of a bundle's variants, and of each layer of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from edgeprune.bundle import Bundle, Variant
from edgeprune.errors import InputError
from edgeprune.graph.operators import operators
from edgeprune.latency_table import Key, LatencyTable, Prediction, read_table
from edgeprune.pipeline.job import Job
from edgeprune.pipeline.operators import timed_graph
from edgeprune.quantize.allocation.latency import PRECISIONS, deciding, layer_latencies, predict
from edgeprune.quantize.emission.flavour import flavour_for
from edgeprune.quantize.plan import uniform_plan
from edgeprune.results import Foretold, Measurement
from edgeprune.targets.target import Target


@dataclass(frozen=True)
class LayerTimes:
    """What each layer takes on one runtime."""

    runtime: str
    layers: Mapping[str, Mapping[str, float]]
    """By weight and precision (`fp32`, `int8`): milliseconds, of all that has its precision from the layer."""
    beside_ms: float
    """What is no layer's and takes as long whatever the layers are."""


def check_table(path: Path, target: Target) -> LatencyTable:
    """The table, if it is of that target. Raises CorruptError where it is damaged, InputError where of another."""
    if not path.is_file():
        raise InputError(f"{path}: no such file: `edgeprune bench BUNDLE --operators` writes one on the device")
    table = read_table(path)
    if table.target != target.name:
        raise InputError(f"{path}: holds times of {table.target}, not of {target.name}: measure there")
    return table


def layer_times(job: Job, graph: ir.Model) -> LayerTimes | None:
    """What each layer takes on the runtime, of those asked for, that is foretold to be fastest in 8 bits.

    None where no table knows it. A layer of which one precision is unknown has that of the other.
    """
    if job.recipe.latency_table is None:
        return None
    table, found = check_table(job.recipe.latency_table, job.target), []
    plan = uniform_plan(graph, "int8")
    for runtime in job.runtimes:
        whole = predict(graph, plan, flavour_for(runtime, job.target), table, runtime)
        layers = {weight: _filled(ms) for weight, ms in layer_latencies(graph, table, runtime).items()}
        if whole.ms is not None and all(layers.values()):
            of_layers = sum(ms["int8"] for ms in layers.values())
            found.append((whole.ms, LayerTimes(runtime, layers, max(whole.ms - of_layers, 0.0))))
    if not found:
        job.progress.say(f"plan: {job.recipe.latency_table} does not know all operators: bits are given out without it")
        return None
    return min(found, key=lambda one: one[0])[1]


def with_predictions(bundle: Bundle, table: LatencyTable, found: tuple[Measurement, ...]) -> tuple[Measurement, ...]:
    """The measurements, those without a latency with what the table says of their variant."""
    variants = {one.name: one for one in (bundle.core.baseline, *bundle.core.variants)}
    return tuple(
        one if one.samples_ms else replace(one, foretold=_told(table, predicted(bundle, variants[one.variant], table)))
        for one in found
    )


def _told(table: LatencyTable, found: Prediction) -> Foretold:
    if found.ms is None:
        return Foretold(None, f"a latency table of {table.machine} that does not know {', '.join(found.unknown)}")
    return Foretold(found.ms, f"a latency table of {table.machine}, {found.interpolated:.0%} of it interpolated")


def predicted(bundle: Bundle, variant: Variant, table: LatencyTable) -> Prediction:
    """What the operators of a variant's file take, each in the precision that is intended for it."""
    found = operators(timed_graph(bundle, variant))
    intended = {layer.name: layer.precision for layer in variant.layers}
    decided = deciding(found, {name: name for name in intended})
    real = variant.precision if variant.precision in ("fp16", "bf16") else "fp32"
    asked = [(one, intended.get(decided[one.name], real)) for one in found]
    return table.predict(
        ((Key(variant.backend, one.kind, one.shapes, how), one.work(how), 1) for one, how in asked),
        sum(one.weight_bytes(how) for one, how in asked),
    )


def _filled(ms: Mapping[str, float]) -> dict[str, float]:
    return {precision: ms.get(precision, next(iter(ms.values()))) for precision in PRECISIONS} if ms else {}
