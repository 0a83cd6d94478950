"""The stages that make a graph and learn what it computes: export or adopt, calibrate."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from pydantic import TypeAdapter

from edgeprune.backends import LOAD
from edgeprune.cache import Stage
from edgeprune.data.pixels import Pixels
from edgeprune.data.plausible import check_images, remark_on_tensors
from edgeprune.data.preprocess import feeds, fits, matched
from edgeprune.data.wordpiece import check_length, check_vocabulary
from edgeprune.errors import DataError, EdgePruneError, InputError, ModelError
from edgeprune.export import parity, to_onnx
from edgeprune.file_hash import sha256_of
from edgeprune.graph.batch import free_batch
from edgeprune.graph.cleanup import clean
from edgeprune.graph.cost import macs
from edgeprune.graph.embedding import embedding_rows
from edgeprune.graph.load import files_of, read_onnx
from edgeprune.graph.pin import pinned
from edgeprune.graph.quantized import given_layers, is_quantized, strip
from edgeprune.graph.save import write_onnx
from edgeprune.graph.specs import tensor_specs
from edgeprune.judge import CLASSIFICATION, REGRESSION
from edgeprune.pipeline.job import Job
from edgeprune.quantize.calibrate import calibrate
from edgeprune.quantize.spec import Range
from edgeprune.registry import resolve
from edgeprune.tensor import IMAGE, TOKENS, TensorSpec, shown

MODEL = "model.onnx"
FACTS = "facts.json"
RANGES = "ranges.json"
CALIBRATION = "calibration.json"
"""How ranges were taken, and how far the samples are from those of the training; null where that cannot be told."""
LOOKED_AT = 256
"""Calibration images that are checked before the work begins."""
SHAPES = frozenset({"Squeeze", "Unsqueeze", "Reshape", "Flatten", "Identity", "Cast"})
BAKED_IN = "its batch is baked in, so samples cannot be taken together: export it with a free first dimension"
NOT_FINITE = "NaN or infinite on the calibration samples: check the weights and the preprocessing"


@dataclass(frozen=True)
class Facts:
    """What is known of an exported graph."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    macs: int
    exporter: str
    notes: tuple[str, ...]
    parity: float | None
    """Largest difference to the torch module; None where there is none."""
    threshold: float = 0.0
    """Above it a single score means the second of two classes: 0.5 where a sigmoid made it a probability."""
    rows: dict[str, int] = field(default_factory=dict)
    """By input: how many numbers from 0 it knows, where it looks them up in a table."""


def export(job: Job, network: Stage | str, load: Callable[[], Any]) -> Stage:
    """The network as a clean ONNX file that computes what the module computes; `load` gives that module.

    `network` is the stage that made its weights, or a hash of them.
    """

    def work(folder: Path) -> None:
        model = load()
        done = to_onnx.export(model, job.specs, folder / MODEL, progress=job.progress)
        some = job.tensors("calibrate", parity.SAMPLES)
        difference = parity.check(model, folder / MODEL, feeds(done.inputs, some, job.splits.info.name))
        facts = _facts(read_onnx(folder / MODEL), done.exporter, done.notes, difference)
        check_fits(job, job.recipe.model, facts)
        _write_facts(folder, facts)

    inputs = {"network": network, "data": _asked(job), "rows": job.splits.fingerprint("calibrate")}
    return job.stage("export", inputs, work, code=("export", "graph", "backends"))


def adopt(job: Job, file: Path) -> Stage:
    """A user's ONNX file, cleaned as an exported one is; of a quantized one, the float model it stands for."""
    if not file.is_file():
        raise InputError(f"{file}: no such model file: give a path to an .onnx file, or a name of the zoo")

    def work(folder: Path) -> None:
        read = pinned(read_onnx(file), job.recipe.data.inputs)
        graph = free_batch(clean(strip(read) if is_quantized(read) else read))
        facts = _facts(graph, "given", (), None)
        check_fits(job, str(file), facts)
        write_onnx(graph, folder / MODEL)
        if not is_quantized(read):  # else the two differ by what quantization rounds; `given` is compared
            _check_batch(file, folder / MODEL, feeds(facts.inputs, job.tensors("calibrate", 2), job.splits.info.name))
        _write_facts(folder, facts)

    inputs = {"files": _hashes(file), "data": _asked(job), "rows": job.splits.fingerprint("calibrate")}
    return job.stage("adopt", inputs, work, code=("graph", "backends"))


def given(job: Job, file: Path) -> Stage | None:
    """A user's ONNX file with Q/DQ pairs, with its numbers as they are; None where it has none."""
    if not file.is_file() or not is_quantized(read_onnx(file)):
        return None

    def work(folder: Path) -> None:
        graph = free_batch(clean(pinned(read_onnx(file), job.recipe.data.inputs), keep_quantized=True))
        write_onnx(graph, folder / MODEL)
        inputs = tensor_specs(graph.graph.inputs)
        _check_batch(file, folder / MODEL, feeds(inputs, job.tensors("calibrate", 2), job.splits.info.name))
        layers = given_layers(graph)
        quantized = sum(layer.precision == "int8" for layer in layers)
        job.progress.say(f"{file}: is quantized already: kept, {quantized} of {len(layers)} layers in int8")

    inputs = {"files": _hashes(file), "data": _asked(job), "rows": job.splits.fingerprint("calibrate")}
    return job.stage("given", inputs, work, code=("graph", "backends"))


def _hashes(file: Path) -> list[str]:
    """Of a model's file and of those that hold its weights."""
    return [sha256_of(path) for path in files_of(file)]


def ranges(job: Job, exported: Stage, suited: Callable[[], float | None] | None = None) -> Stage:
    """What values the tensors of the graph take on the calibration samples.

    `suited` says how far those are from what the network was trained on, or refuses them.
    """

    def work(folder: Path) -> None:
        facts, name, preprocess = read_facts(exported), job.splits.info.name, job.splits.preprocess
        if isinstance(preprocess, Pixels) and not job.untrained:
            check_images(job.splits.first("calibrate", LOOKED_AT).columns[IMAGE], preprocess, name)
        elif not isinstance(preprocess, Pixels):
            columns = feeds(facts.inputs, preprocess(job.splits.first("calibrate", LOOKED_AT).columns), name)
            for remark in remark_on_tensors(columns):
                job.progress.say(f"{name}: {remark}")
        mismatch = suited() if suited else None
        batches = (feeds(facts.inputs, preprocess(part.columns), name) for part in job.splits.batches("calibrate", 32))
        checkpoint, model = folder / "checkpoint.npz", exported.folder / MODEL
        found = calibrate(model, batches, observer=job.observer, checkpoint=checkpoint, progress=job.progress)
        _write_json(folder / RANGES, {name: [one.low, one.high] for name, one in sorted(found.items())})
        _write_json(folder / CALIBRATION, {"observer": job.observer, "mismatch": mismatch})
        checkpoint.unlink(missing_ok=True)

    inputs = {
        "model": exported,
        "rows": job.splits.fingerprint("calibrate"),
        "preprocess": job.splits.preprocess.to_json(),
        "observer": job.observer,
    }
    return job.stage(
        "calibrate", inputs, work, code=("quantize", "graph", "backends", "data", "models"), resumable=True
    )


def read_facts(exported: Stage) -> Facts:
    """What is known of an exported graph."""
    return TypeAdapter(Facts).validate_json((exported.folder / FACTS).read_bytes())


def read_ranges(calibrated: Stage) -> dict[str, Range]:
    """The ranges a calibration left."""
    raw = json.loads((calibrated.folder / RANGES).read_bytes())
    return {name: Range(low, high) for name, (low, high) in raw.items()}


def _facts(graph: ir.Model, exporter: str, notes: tuple[str, ...], difference: float | None) -> Facts:
    inputs, outputs = tensor_specs(graph.graph.inputs), tensor_specs(graph.graph.outputs)
    threshold = 0.5 if any(map(_is_probability, graph.graph.outputs)) else 0.0
    return Facts(inputs, outputs, macs(graph), exporter, notes, difference, threshold, embedding_rows(graph))


def _is_probability(output: ir.Value) -> bool:
    """Whether it is one number per sample that a sigmoid made, perhaps in another shape."""
    sizes = [] if output.shape is None else list(output.shape)[1:]
    producer = output.producer()
    while producer is not None and producer.op_type in SHAPES and producer.inputs[0] is not None:
        producer = producer.inputs[0].producer()
    return all(size == 1 for size in sizes) and producer is not None and producer.op_type == "Sigmoid"


def _asked(job: Job) -> dict[str, Any]:
    """What a graph must fit."""
    specs = [[spec.name, spec.dtype, list(spec.shape)] for spec in job.specs]
    judged = {"metrics": list(job.metrics), "metric": job.recipe.data.metric}
    return {"specs": specs, "arguments": job.arguments, "inputs": list(job.recipe.data.inputs), **judged}


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def _write_facts(folder: Path, facts: Facts) -> None:
    (folder / FACTS).write_bytes(TypeAdapter(Facts).dump_json(facts, indent=1) + b"\n")


def check_fits(job: Job, name: str, facts: Facts) -> None:
    """Refuse a graph that the data cannot feed or whose answers the labels cannot judge, before time is spent on it."""
    data, given = job.splits.info.name, {spec.name: spec for spec in job.specs}
    otherwise = "choose other data (--data) or another model"
    for spec in facts.inputs:
        if not spec.shape or not isinstance(spec.shape[0], str):
            raise ModelError(f"{name}: input {shown(spec)} has no free batch in front: make it a constant of the model")
    try:
        pairs = matched(facts.inputs, given, name)
    except DataError as error:
        raise ModelError(f"{error}: {otherwise}") from error
    for spec, source in pairs:
        if source == TOKENS and spec.name in facts.rows:
            check_vocabulary(job.splits.preprocess, facts.rows[spec.name], name)
        if source == TOKENS and len(spec.shape) == 2 and isinstance(spec.shape[1], int):
            check_length(job.splits.preprocess, spec.shape[1], name)
        if not fits(given[source], spec):
            told = f"{name}: input {shown(spec)}, but {data} gives {shown(given[source])}"
            raise ModelError(f"{told}: {_other_type(spec, given[source]) or otherwise}")
    if wanted := _unanswered(job, facts):
        outputs = ", ".join(map(shown, facts.outputs))
        raise ModelError(f"{name}: gives {outputs}, but {data} needs {wanted}: {otherwise}")


def _other_type(wanted: TensorSpec, given: TensorSpec) -> str:
    """What to do where the type alone does not fit; empty where more does not."""
    same = fits(TensorSpec(given.name, wanted.dtype, given.shape), wanted)
    return f"store the array as {wanted.dtype}" if same else ""


def _unanswered(job: Job, facts: Facts) -> str:
    """What output the task needs that the graph does not give; empty where it gives it."""
    info, outputs = job.splits.info, facts.outputs
    if not job.metrics or job.recipe.data.metric is not None:
        return ""
    single = any(_is(spec, ()) or _is(spec, (1,)) for spec in outputs)
    if info.task == CLASSIFICATION:
        classes = len(info.classes)
        if any(_is(spec, (classes,)) for spec in outputs) or (classes == 2 and single):
            return ""
        return f"an output float32[batch, {classes}] for its {classes} classes"
    if info.task == REGRESSION:
        return "" if single else "an output float32[batch, 1]"
    starts = [spec for spec in outputs if spec.dtype == "float32" and len(spec.shape) == 2]
    return "" if len(starts) >= 2 else "two outputs float32[batch, length], where the answer starts and ends"


def _is(spec: TensorSpec, sizes: tuple[int, ...]) -> bool:
    """Whether it is float32 of [batch, *sizes]; a free dimension fits any size."""
    return spec.dtype == "float32" and fits(TensorSpec(spec.name, "float32", ("batch", *sizes)), spec)


def _check_batch(file: Path, freed: Path, given: dict[str, NDArray[Any]]) -> None:
    """Two samples at once must give what each gives alone in the user's own file."""
    load = resolve(LOAD, "ort", "runtime")
    with load({"model": file}, {}, threads=1, batch=1) as one, load({"model": freed}, {}, threads=1, batch=2) as two:
        alone = [one.infer({name: array[row : row + 1] for name, array in given.items()}) for row in range(2)]
        try:
            together = two.infer(given)
        except EdgePruneError as error:
            raise ModelError(f"{file}: {BAKED_IN}") from error
    for name, found in together.items():
        expected = np.concatenate([np.atleast_1d(outputs[name]) for outputs in alone])
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        if not np.isfinite(expected).all():
            raise ModelError(f"{file}: '{name}' is {NOT_FINITE}")
        same = expected.shape == found.shape
        if not same or not float(np.abs(expected - found).max(initial=0)) <= parity.TOLERANCE * scale:
            raise ModelError(f"{file}: {BAKED_IN}")
