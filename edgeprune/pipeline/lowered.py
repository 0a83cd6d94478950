"""The stage that makes a variant: a graph in one runtime's spelling, and how it must be opened there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import onnx_ir as ir

from edgeprune.backends import LOAD, LOWER
from edgeprune.backends.backend import Lowered
from edgeprune.bundle import LayerPlan
from edgeprune.cache import Stage
from edgeprune.data.preprocess import feeds
from edgeprune.errors import MissingError, ModelError
from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.load import read_onnx
from edgeprune.graph.quantized import given_layers
from edgeprune.graph.save import write_onnx
from edgeprune.graph.specs import tensor_specs
from edgeprune.interleaved.predict import FLOAT_QDQ
from edgeprune.metrics import snr_db
from edgeprune.pipeline import departure
from edgeprune.pipeline.artifact import MODEL
from edgeprune.pipeline.job import Job
from edgeprune.pipeline.quantization import Quantization
from edgeprune.quantize.emission.flavour import Flavour, fitted, flavour_for, kernel
from edgeprune.quantize.spec import QuantPlan
from edgeprune.registry import resolve

VARIANT = "variant.json"
STORED_BITS = {"fp16": 16.0}
"""Of a weight in a float file, where they are not 32: what computes in bfloat16 is given float32."""
SAMPLES = 4
"""That a runtime must answer as its file says."""
LEAST_SIGNAL_DB = 10.0
"""Runtimes round differently, which leaves 20 dB and more; wrong numbers leave next to nothing."""


def lower(job: Job, exported: Stage, backend: str, precision: str) -> Stage:
    """A graph as it is; the runtime itself computes in `precision`."""

    def work(folder: Path) -> None:
        source = exported.folder / MODEL
        lowered = resolve(LOWER, backend, "backend")(source, job.target, precision, folder)
        reason = f"every layer in {precision}, as asked for"
        every = weighted_layers(read_onnx(source))
        bits = STORED_BITS.get(precision, 32.0)
        layers = [LayerPlan(one.name, one.op, one.weight, precision, reason, bits, one.numbers) for one in every]
        _write_variant(folder, lowered, layers)

    inputs = {
        "model": exported,
        "backend": backend,
        "precision": precision,
        "target": job.target.model_dump(mode="json"),
    }
    return job.stage("lower", inputs, work, code=("graph", "backends"))


def lower_quantized(job: Job, quantization: Quantization, backend: str, precision: str) -> Stage:
    """A graph with Q/DQ pairs, each layer as `quantization` decided and the runtime can have it."""

    def work(folder: Path) -> None:
        flavour, graph, source = flavour_for(backend, job.target), quantization.graph(), folder / "flavoured.onnx"
        chosen = quantization.chosen(precision)
        plan = fitted(chosen, graph, flavour)
        wider = Counter(plan.layers[name].reason for name in plan.layers if plan.layers[name] != chosen.layers[name])
        for reason, count in wider.items():
            job.progress.say(f"{backend}-{precision}: {count} of {len(plan.layers)} layers are wider: {reason}")
        write_onnx(quantization.spelled(plan, flavour, precision), source)
        lowered = resolve(LOWER, backend, "backend")(source, job.target, precision, folder)
        layers = _intended(graph, plan, flavour)
        _check_answers(job, source, lowered, backend, precision, layers)
        source.unlink()
        _write_variant(folder, lowered, layers)

    inputs = {
        "model": quantization.exported,
        **quantization.inputs(precision),
        "backend": backend,
        "precision": precision,
        "target": job.target.model_dump(mode="json"),
    }
    inputs["rows"] = job.splits.fingerprint("calibrate")
    return job.stage("lower", inputs, work, code=("quantize", "graph", "backends"))


def lower_given(job: Job, kept: Stage, backend: str) -> Stage:
    """The int8 variant that a quantized file is itself, where the runtime takes it as it is."""

    def work(folder: Path) -> None:
        source = kept.folder / MODEL
        lowered = resolve(LOWER, backend, "backend")(source, job.target, "int8", folder)
        layers = given_layers(read_onnx(source))
        _check_answers(job, source, lowered, backend, "int8", layers)
        _write_variant(folder, lowered, layers)

    inputs = {"given": kept, "backend": backend, "target": job.target.model_dump(mode="json")}
    return job.stage("lower", inputs, work, code=("graph", "backends"))


def _check_answers(
    job: Job, source: Path, lowered: Lowered, backend: str, precision: str, layers: Sequence[LayerPlan]
) -> None:
    """Refuse a file from which a runtime that is here computes something else than its Q/DQ pairs say.

    Seen: ONNX Runtime 1.31 with scales along a weight's inputs, or a Gemm's bias in other steps than input x weight;
    OpenVINO 2026.4 behind a ReduceMax. All of them ran without a word.
    """
    if backend not in LOAD:
        return
    given = feeds(tensor_specs(read_onnx(source).graph.inputs), job.tensors("calibrate", SAMPLES), job.splits.info.name)
    try:
        found = departure.run(lowered.files, lowered.options, backend, given)
    except MissingError:  # the runtime is not here
        return
    expected = departure.run({"model": source}, FLOAT_QDQ, "ort", given)
    signal = {name: snr_db(expected[name], found[name]) for name in expected}
    worst = min(signal, key=lambda name: signal[name])
    if signal[worst] < LEAST_SIGNAL_DB:
        names = [layer.name for layer in layers]
        first = departure.first_departing(
            departure.in_runtime(read_onnx(source), names, backend, lowered.files, lowered.options, given)
        )
        where = f", first in layer '{first.layer}'" if first is not None else ""
        raise ModelError(
            f"{backend}-{precision}: {backend} computes something else from the file than its Q/DQ pairs say{where}:"
            f" '{worst}' has a signal-to-noise ratio of {signal[worst]:.1f} dB on {SAMPLES} samples,"
            f" {LEAST_SIGNAL_DB:g} is the least: choose another --backend"
        )


def _write_variant(folder: Path, lowered: Lowered, layers: Sequence[LayerPlan]) -> None:
    record = {
        "files": {role: path.relative_to(folder).as_posix() for role, path in lowered.files.items()},
        "options": lowered.options,
        "unproven": lowered.unproven,
        "layers": [asdict(layer) for layer in layers],
    }
    (folder / VARIANT).write_text(json.dumps(record, indent=1) + "\n")


def _intended(graph: ir.Model, plan: QuantPlan, flavour: Flavour) -> list[LayerPlan]:
    """Each layer's precision and bits, as planned."""
    found = []
    for one in weighted_layers(graph):
        chosen = plan.layers[one.weight]
        bits = chosen.weight_bits(one.weight_shape[one.axis])
        ran_in = kernel(chosen, one, flavour)
        found.append(LayerPlan(one.name, one.op, one.weight, ran_in, chosen.reason, bits, one.numbers))
    return found
