"""The stages that make files a runtime opens: export, calibrate, lower."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from pydantic import TypeAdapter

from edgeprune.backends import LOAD, LOWER
from edgeprune.bundle import LayerPlan, sha256_of
from edgeprune.cache import Stage
from edgeprune.data.datasets import read
from edgeprune.errors import InputError, ModelError
from edgeprune.export import parity, to_onnx
from edgeprune.graph.batch import free_batch
from edgeprune.graph.cleanup import clean
from edgeprune.graph.cost import macs
from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.load import read_onnx
from edgeprune.graph.save import write_onnx
from edgeprune.graph.specs import tensor_specs
from edgeprune.pipeline.job import Job
from edgeprune.quantize.calibrate import calibrate
from edgeprune.quantize.flavour import FLAVOURS, fitted
from edgeprune.quantize.plan import uniform_plan
from edgeprune.quantize.qdq import emit
from edgeprune.quantize.spec import QuantPlan, Range
from edgeprune.registry import resolve
from edgeprune.tensor import TensorSpec

MODEL = "model.onnx"
FACTS = "facts.json"
VARIANT = "variant.json"
BAKED_IN = "its batch is baked in, so samples cannot be taken together: export it with a free first dimension"


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


def export(job: Job, network: Stage, model: Any) -> Stage:
    """The network as a clean ONNX file that computes what the module computes; `model` is that module."""

    def work(folder: Path) -> None:
        done = to_onnx.export(model, job.input_shape, folder / MODEL, progress=job.progress)
        difference = parity.check(model, folder / MODEL, _some_samples(job, "calibrate", 5))
        facts = _facts(read_onnx(folder / MODEL), done.exporter, done.notes, difference)
        _check_fits(job, job.recipe.model, facts)
        _write_facts(folder, facts)

    inputs = {"network": network, "data": _judges(job), "rows": job.splits.fingerprint("calibrate")}
    return job.stage("export", inputs, work, code=("export", "graph", "backends"))


def adopt(job: Job, file: Path) -> Stage:
    """A user's ONNX file, cleaned as an exported one is."""
    if not file.is_file():
        raise InputError(f"{file}: no such model file: give a path to an .onnx file, or a name of the zoo")

    def work(folder: Path) -> None:
        graph = free_batch(clean(read_onnx(file)))
        facts = _facts(graph, "given", (), None)
        _check_fits(job, str(file), facts)
        write_onnx(graph, folder / MODEL)
        _check_batch(file, folder / MODEL, _some_samples(job, "calibrate", 2))
        _write_facts(folder, facts)

    inputs = {"file": sha256_of(file), "data": _judges(job), "rows": job.splits.fingerprint("calibrate")}
    return job.stage("adopt", inputs, work, code=("graph", "backends"))


def ranges(job: Job, exported: Stage) -> Stage:
    """What values the tensors of the graph take on the calibration samples."""

    def work(folder: Path) -> None:
        facts = read_facts(exported)
        samples = read(job.splits.rows["calibrate"]).images
        batches = (
            {facts.inputs[0].name: job.splits.preprocess(samples[start : start + 32])}
            for start in range(0, len(samples), 32)
        )
        found = calibrate(exported.folder / MODEL, batches, observer=job.splits.observer, progress=job.progress)
        text = json.dumps({name: [one.low, one.high] for name, one in sorted(found.items())}, indent=1)
        (folder / "ranges.json").write_text(text + "\n")

    inputs = {
        "model": exported,
        "rows": job.splits.fingerprint("calibrate"),
        "preprocess": job.splits.preprocess.to_json(),
        "observer": job.splits.observer,
    }
    return job.stage("calibrate", inputs, work, code=("quantize", "graph", "backends", "data"))


def lower(job: Job, exported: Stage, calibrated: Stage | None, backend: str, precision: str) -> Stage:
    """One variant: the graph in the runtime's own spelling, and how it must be opened.

    With `calibrated` ranges it is quantized; without, the runtime itself computes in `precision`.
    """

    def work(folder: Path) -> None:
        graph, source = read_onnx(exported.folder / MODEL), exported.folder / MODEL
        plan = uniform_plan(graph, "int8" if precision == "int8" else "fp32")
        if calibrated is not None:
            flavour = FLAVOURS[backend].reduced() if job.target.reduced_range else FLAVOURS[backend]
            plan = fitted(plan, graph, flavour)
            source = folder / "flavoured.onnx"
            write_onnx(emit(graph, plan, read_ranges(calibrated), flavour), source)
        lowered = resolve(LOWER, backend, "backend")(source, job.target, precision, folder)
        (folder / "flavoured.onnx").unlink(missing_ok=True)
        record = {
            "files": {role: path.relative_to(folder).as_posix() for role, path in lowered.files.items()},
            "options": lowered.options,
            "layers": [asdict(layer) for layer in _intended(graph, plan, precision)],
        }
        (folder / VARIANT).write_text(json.dumps(record, indent=1) + "\n")

    inputs = {
        "model": exported,
        "ranges": calibrated,
        "backend": backend,
        "precision": precision,
        "target": job.target.model_dump(mode="json"),
    }
    return job.stage("lower", inputs, work, code=("quantize", "graph", "backends"))


def _intended(graph: ir.Model, plan: QuantPlan, precision: str) -> list[LayerPlan]:
    """Each layer's precision: as planned where the variant is quantized, else the whole model's."""
    return [
        LayerPlan(one.name, one.op, one.weight, chosen.precision if precision == "int8" else precision, chosen.reason)
        for one in weighted_layers(graph)
        for chosen in [plan.layers[one.weight]]
    ]


def read_facts(exported: Stage) -> Facts:
    """What is known of an exported graph."""
    return TypeAdapter(Facts).validate_json((exported.folder / FACTS).read_bytes())


def read_ranges(calibrated: Stage) -> dict[str, Range]:
    """The ranges a calibration left."""
    raw = json.loads((calibrated.folder / "ranges.json").read_bytes())
    return {name: Range(low, high) for name, (low, high) in raw.items()}


def _facts(graph: ir.Model, exporter: str, notes: tuple[str, ...], difference: float | None) -> Facts:
    inputs, outputs = tensor_specs(graph.graph.inputs), tensor_specs(graph.graph.outputs)
    return Facts(inputs, outputs, macs(graph), exporter, notes, difference)


def _judges(job: Job) -> dict[str, Any]:
    """What a graph must fit."""
    return {"shape": job.input_shape, "classes": len(job.splits.info.classes)}


def _write_facts(folder: Path, facts: Facts) -> None:
    (folder / FACTS).write_bytes(TypeAdapter(Facts).dump_json(facts, indent=1) + b"\n")


def _some_samples(job: Job, split: str, count: int) -> NDArray[Any]:
    return job.splits.preprocess(read(job.splits.rows[split]).images[:count])


def _check_fits(job: Job, name: str, facts: Facts) -> None:
    """Refuse a graph that the data cannot feed or whose answers the labels cannot judge, before time is spent on it."""
    data, shape, classes = job.splits.info.name, job.input_shape, len(job.splits.info.classes)
    if len(facts.inputs) != 1:
        names = ", ".join(spec.name for spec in facts.inputs)
        raise ModelError(f"{name}: has {len(facts.inputs)} inputs ({names}): image data feeds exactly one")
    if not _is(facts.inputs[0], shape):
        raise ModelError(
            f"{name}: input {_shown(facts.inputs[0])}, but {data} gives float32{['batch', *shape]}:"
            " choose other data (--data) or another model"
        )
    if len(facts.outputs) != 1 or not _is(facts.outputs[0], (classes,)):
        raise ModelError(
            f"{name}: gives {', '.join(_shown(spec) for spec in facts.outputs)}, but the {classes} classes of {data}"
            f" need one output float32{['batch', classes]}: choose other data (--data) or another model"
        )


def _is(spec: TensorSpec, sizes: tuple[int, ...]) -> bool:
    """Whether it is float32 of [batch, *sizes]; a free dimension fits any size."""
    if spec.dtype != "float32" or len(spec.shape) != len(sizes) + 1:
        return False
    return all(isinstance(a, str) or a == b for a, b in zip(spec.shape[1:], sizes, strict=True))


def _shown(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.dtype}{list(spec.shape)}"


def _check_batch(file: Path, freed: Path, samples: NDArray[Any]) -> None:
    """Two samples at once must give what each gives alone in the user's own file."""
    load = resolve(LOAD, "ort", "runtime")
    with load({"model": file}, {}, threads=1, batch=1) as one, load({"model": freed}, {}, threads=1, batch=2) as two:
        name = one.input_names[0]
        alone = np.concatenate([one.infer({name: sample[np.newaxis]})[one.output_names[0]] for sample in samples])
        try:
            together = two.infer({name: samples})[two.output_names[0]]
        except ModelError as error:
            raise ModelError(f"{file}: {BAKED_IN}") from error
    scale = max(1.0, float(np.abs(alone).max()))
    if alone.shape != together.shape or not float(np.abs(alone - together).max()) <= parity.TOLERANCE * scale:
        raise ModelError(f"{file}: {BAKED_IN}")
