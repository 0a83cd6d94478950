"""The stage that makes a variant: a graph in one runtime's spelling, and how it must be opened there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import onnx_ir as ir

from edgeprune.backends import LOWER
from edgeprune.backends.backend import Lowered
from edgeprune.bundle import LayerPlan
from edgeprune.cache import Stage
from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.load import read_onnx
from edgeprune.graph.quantized import given_layers
from edgeprune.graph.save import write_onnx
from edgeprune.pipeline.artifact import MODEL
from edgeprune.pipeline.job import Job
from edgeprune.pipeline.quantization import Quantization
from edgeprune.quantize.flavour import Flavour, fitted, flavour_for, kernel
from edgeprune.quantize.spec import QuantPlan
from edgeprune.registry import resolve

VARIANT = "variant.json"


def lower(job: Job, exported: Stage, backend: str, precision: str) -> Stage:
    """A graph as it is; the runtime itself computes in `precision`."""

    def work(folder: Path) -> None:
        source = exported.folder / MODEL
        lowered = resolve(LOWER, backend, "backend")(source, job.target, precision, folder)
        reason = f"every layer in {precision}, as asked for"
        every = weighted_layers(read_onnx(source))
        _write_variant(folder, lowered, [LayerPlan(one.name, one.op, one.weight, precision, reason) for one in every])

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
        plan = fitted(quantization.chosen(precision), graph, flavour)
        write_onnx(quantization.spelled(plan, flavour), source)
        lowered = resolve(LOWER, backend, "backend")(source, job.target, precision, folder)
        source.unlink()
        _write_variant(folder, lowered, _intended(graph, plan, flavour))

    inputs = {
        "model": quantization.exported,
        **quantization.inputs(precision),
        "backend": backend,
        "precision": precision,
        "target": job.target.model_dump(mode="json"),
    }
    return job.stage("lower", inputs, work, code=("quantize", "graph", "backends"))


def lower_given(job: Job, kept: Stage, backend: str) -> Stage:
    """The int8 variant that a quantized file is itself, where the runtime takes it as it is."""

    def work(folder: Path) -> None:
        source = kept.folder / MODEL
        lowered = resolve(LOWER, backend, "backend")(source, job.target, "int8", folder)
        _write_variant(folder, lowered, given_layers(read_onnx(source)))

    inputs = {"given": kept, "backend": backend, "target": job.target.model_dump(mode="json")}
    return job.stage("lower", inputs, work, code=("graph", "backends"))


def _write_variant(folder: Path, lowered: Lowered, layers: Iterable[LayerPlan]) -> None:
    record = {
        "files": {role: path.relative_to(folder).as_posix() for role, path in lowered.files.items()},
        "options": lowered.options,
        "layers": [asdict(layer) for layer in layers],
    }
    (folder / VARIANT).write_text(json.dumps(record, indent=1) + "\n")


def _intended(graph: ir.Model, plan: QuantPlan, flavour: Flavour) -> list[LayerPlan]:
    """Each layer's precision and bits, as planned."""
    found = []
    for one in weighted_layers(graph):
        chosen = plan.layers[one.weight]
        bits = chosen.weight_bits(one.weight_shape[one.axis])
        found.append(LayerPlan(one.name, one.op, one.weight, kernel(chosen, one, flavour), chosen.reason, bits))
    return found
