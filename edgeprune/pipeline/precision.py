"""The stage that decides every layer's precision: sensitivity predicts, allocation proposes, the runtime verifies."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends import BUILD, LOAD
from edgeprune.backends.backend import Feeds, Runner
from edgeprune.bundle import PLAN, Task
from edgeprune.cache import Stage
from edgeprune.data.judges import judge
from edgeprune.data.preprocess import feeds
from edgeprune.decisions import Predicted, TriedPlan, write_predicted, write_tried
from edgeprune.errors import MissingError, ModelError
from edgeprune.file_hash import sha256_of
from edgeprune.graph.layers import weighted_layers
from edgeprune.graph.load import read_onnx
from edgeprune.graph.save import write_onnx
from edgeprune.interleaved.predict import FLOAT_QDQ
from edgeprune.metrics import Interval, agreement, snr_db
from edgeprune.pipeline.artifact import MODEL, Facts, ranges, read_facts, read_ranges
from edgeprune.pipeline.corrections import conditioned, means, read_rounded, rounded, tell_of_idle
from edgeprune.pipeline.foretold import layer_times
from edgeprune.pipeline.job import Job
from edgeprune.pipeline.lowered import VARIANT
from edgeprune.pipeline.quantization import Quantization, first_backend
from edgeprune.quantize.allocation.allocate import Amount
from edgeprune.quantize.allocation.options import options_of
from edgeprune.quantize.allocation.search import Tried, best_within_size, smallest_within
from edgeprune.quantize.emission.flavour import FLAVOURS, Flavour, flavour_for
from edgeprune.quantize.emission.stored import stored_weights
from edgeprune.quantize.plan import uniform_plan
from edgeprune.quantize.plan_file import read_plan, write_plan
from edgeprune.quantize.sensitivity.candidates import Candidates, nearest
from edgeprune.quantize.sensitivity.divergence import divergence
from edgeprune.quantize.sensitivity.likelihood import likelihoods
from edgeprune.quantize.sensitivity.sensitivity import Sensitivity, read_sensitivity, write_sensitivity
from edgeprune.quantize.spec import QuantPlan
from edgeprune.registry import resolve
from edgeprune.results import MB

SENSITIVITY = "sensitivity.json"
BATCH = 32
MOST_SAMPLES = 256
"""That sensitivity looks at: a few hundred rank the layers as well as all would."""

LOST = "lost.json"
SIMULATED = "simulated: ONNX Runtime, Q/DQ in float"

Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Lost:
    """What a finished file loses against the float graph, on the samples that select."""

    points: float
    source: str
    """The runtime that answered, or how it was simulated."""


def decide(
    job: Job,
    dense: Stage,
    exported: Stage,
    load: Callable[[], Any] | None,
    suited: Callable[[], float | None] | None,
) -> Quantization:
    """All that the quantized variants of a graph depend on; `load` gives the module it came from, if there is one."""
    narrow = job.recipe.quantize.precision
    tell_of_idle(job)
    exported = exported if job.tunes else conditioned(job, exported)  # a module is tuned as it is
    found = Quantization(exported, ranges(job, exported, suited), means(job, exported))
    if narrow == "int8" or (job.tunes and narrow != "mixed"):
        return found
    if narrow == "int4":
        return _with_rounded(found, narrow, rounded(job, exported, None))
    if file := job.recipe.quantize.plan:
        chosen = given_plan(job, exported, file)
    else:  # each weight as it would be whatever the others are
        trial = _with_rounded(found, narrow, rounded(job, exported, None, alone=True))
        chosen = plan(job, dense, trial, sensitivity(job, trial, load))
    found = replace(found, plan=chosen)
    return found if job.tunes else _with_rounded(found, narrow, rounded(job, exported, chosen))


def _with_rounded(found: Quantization, precision: str, stage: Stage | None) -> Quantization:
    return found if stage is None else replace(found, rounded={precision: stage})


def sensitivity(job: Job, quantization: Quantization, load: Callable[[], Any] | None) -> Stage:
    """What each precision of each layer is predicted to cost; `load` gives the module, if there is one.

    From the curvature of the loss where a module is at hand and its weights are those of the graph, else from runs of
    the graph.
    """
    backend = first_backend(job)

    def work(folder: Path) -> None:
        facts, graph = read_facts(quantization.exported), quantization.graph()
        samples = min(MOST_SAMPLES, len(job.splits.digests["calibrate"]))
        given = feeds(facts.inputs, job.tensors("calibrate", samples), job.splits.info.name)
        answers = _answers({"model": quantization.exported.folder / MODEL}, {}, _parts(given))
        by_output = likelihoods(job.splits.info.task, answers, is_probability=facts.threshold > 0)
        measure = partial(
            _measured,
            graph=graph,
            feeds=given,
            candidates=_candidates(graph, quantization, FLAVOURS[backend]),
            likelihoods=by_output,
            random=np.random.default_rng(job.recipe.seed),
            ranges=read_ranges(quantization.ranges),
            progress=job.progress,
        )
        write_sensitivity(measure(None if load is None else load(), say=job.progress.say), folder / SENSITIVITY)

    inputs = {
        "model": quantization.exported,
        **quantization.inputs("mixed"),
        "rows": job.splits.fingerprint("calibrate"),
        "preprocess": job.splits.preprocess.to_json(),
        "task": job.splits.info.task,
        "backend": backend,
        "module": load is not None,
        "seed": job.recipe.seed,
    }
    return job.stage("sensitivity", inputs, work, code=("quantize", "graph", "backends", "models", "data"))


def _measured(model: Any, *, graph: ir.Model, say: Callable[[str], None], **how: Any) -> Sensitivity:
    from edgeprune.quantize.sensitivity.curvature import curvature  # imports torch, which a graph alone does not need

    if model is not None:
        try:
            return curvature(model, graph, **how)
        except ModelError as error:
            say(f"sensitivity: {error}: taken from the graph alone")
    return divergence(graph, **how)


def _candidates(graph: ir.Model, quantization: Quantization, flavour: Flavour) -> Candidates:
    """Weights as they are stored: to the nearest number, but for those in 4 bits that are rounded on purpose."""
    found, stage = nearest(graph), quantization.rounded.get("mixed")
    rounded = read_rounded(stage, flavour) if stage is not None else {}
    four = uniform_plan(graph, "int4")
    for weight, real in stored_weights(graph, four, flavour, rounded, precisions=("int4",)).items():
        found[weight]["int4"] = real
    return found


def _parts(given: Feeds) -> Iterator[Feeds]:
    count = len(next(iter(given.values())))
    for start in range(0, count, BATCH):
        yield {name: array[start : start + BATCH] for name, array in given.items()}


def plan(job: Job, dense: Stage, quantization: Quantization, sensitivity: Stage) -> Stage:
    """What `mixed` is: the smallest that loses no more than is allowed, or that loses least in the size asked for.

    `dense`: the unpruned float graph, against which is lost.
    """
    exported, budgets = quantization.exported, job.recipe.budgets

    def work(folder: Path) -> None:
        graph, known = quantization.graph(), read_sensitivity(sensitivity.folder / SENSITIVITY)
        times = None if budgets.max_latency_ms is None else layer_times(job, graph)
        options = {
            one.weight: options_of(
                one,
                known.layers[one.weight].losses,
                known.layers[one.weight].channels,
                None if times is None else times.layers[one.weight],
            )
            for one in weighted_layers(graph)
        }
        limits: dict[Amount, float] = {}
        if job.target.memory_bytes is not None:
            limits["memory_bytes"] = job.target.memory_bytes
        if times is not None and budgets.max_latency_ms is not None:
            limits["latency_ms"] = budgets.max_latency_ms - times.beside_ms
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as scratch:
            verify = _verifier(job, dense, quantization, Path(scratch))
            if budgets.max_size_mb is not None:
                best, tried = best_within_size(options, verify, budgets.max_size_mb * MB, limits)
            else:
                best, tried = smallest_within(options, verify, budgets.max_drop, limits)
        write_plan(best.plan, folder / PLAN)
        write_tried([_record(one, best) for one in tried], folder)
        losses = {weight: one.losses for weight, one in known.layers.items()}
        write_predicted(Predicted(known.method, losses), folder)

    inputs = {
        "model": exported,
        "dense": dense,
        "sensitivity": sensitivity,
        **quantization.inputs("mixed"),
        "budgets": budgets.model_dump(),
        "latency_table": None if job.recipe.latency_table is None else sha256_of(job.recipe.latency_table),
        **_judged(job),
        "backend": first_backend(job),
    }
    return job.stage("plan", inputs, work, code=("quantize", "graph", "backends", "data", "judge", "metrics"))


def given_plan(job: Job, exported: Stage, file: Path) -> Stage:
    """What `mixed` is, as a user's file says."""

    def work(folder: Path) -> None:
        write_plan(read_plan(file, read_onnx(exported.folder / MODEL)), folder / PLAN)

    return job.stage("plan", {"model": exported, "given": sha256_of(file)}, work, code=("quantize", "graph"))


def _record(one: Tried, best: Tried) -> TriedPlan:
    bits = [layer.precision for layer in one.plan.layers.values()]
    counts = {precision: bits.count(precision) for precision in sorted(set(bits))}
    return TriedPlan(one is best, one.predicted_loss, one.lost_points, one.file_bytes, counts)


def lost(job: Job, dense: Stage, variant: Stage, backend: str) -> Lost:
    """What a variant's file loses on the samples that select against the float graph `dense`, with no margin.

    Answered in its runtime where that can be opened here, else simulated.
    """
    record = json.loads((variant.folder / VARIANT).read_bytes())
    files = {role: variant.folder / name for role, name in record["files"].items()}

    def work(folder: Path) -> None:
        facts = read_facts(dense)
        judged = _loss_of(job, facts.threshold, _answers({"model": dense.folder / MODEL}, {}, _selecting(job, facts)))
        source, found = backend, None
        if job.target.local and backend not in BUILD:
            with suppress(MissingError):
                found = _answers(files, record["options"], _selecting(job, facts), backend)
        if found is None:
            source, found = SIMULATED, _answers({"model": files["model"]}, FLOAT_QDQ, _selecting(job, facts))
        (folder / LOST).write_text(json.dumps(asdict(Lost(judged(found).estimate, source))) + "\n")

    inputs = {"dense": dense, "variant": variant, "backend": backend, **_judged(job)}
    stage = job.stage("judge", inputs, work, code=("graph", "backends", "data", "judge", "metrics"))
    return Lost(**json.loads((stage.folder / LOST).read_bytes()))


def _verifier(
    job: Job, dense: Stage, quantization: Quantization, scratch: Path
) -> Callable[[QuantPlan], tuple[float, int]]:
    """Makes a plan's file for the first of the target's runtimes, and has it answer the samples that select."""
    backend = first_backend(job)
    flavour, options = flavour_for(backend, job.target), {} if backend == "ort" and job.target.local else FLOAT_QDQ
    facts = read_facts(quantization.exported)
    reference = _answers({"model": dense.folder / MODEL}, {}, _selecting(job, facts))
    judged = _loss_of(job, read_facts(dense).threshold, reference)
    file = scratch / MODEL

    def verify(plan: QuantPlan) -> tuple[float, int]:
        write_onnx(quantization.spelled(plan, flavour, "mixed"), file)
        points = _with_margin(judged(_answers({"model": file}, options, _selecting(job, facts))))
        job.progress.say(
            f"plan: {file.stat().st_size / 1e3:,.0f} kB loses up to {points:.2f} points on the select split"
        )
        return points, file.stat().st_size

    return verify


def _selecting(job: Job, facts: Facts) -> Iterator[Feeds]:
    for part in job.splits.batches("select", BATCH):
        yield feeds(facts.inputs, job.splits.preprocess(part.columns), job.splits.info.name)


def _judged(job: Job) -> dict[str, object]:
    """By what, and on what, points are lost."""
    return {
        "rows": job.splits.fingerprint("select"),
        "preprocess": job.splits.preprocess.to_json(),
        "judged": [list(job.metrics), job.recipe.data.metric],
        "target": job.target.model_dump(mode="json"),
    }


def _loss_of(job: Job, threshold: float, reference: Outputs) -> Callable[[Outputs], Interval]:
    """Points that outputs lose against the reference; none where every answer is the same.

    Without labels they are the percentage of samples that are answered otherwise, or of the power that is noise where
    answers are no classes.
    """
    task = Task(job.splits.info.task, job.metrics, threshold)
    judging = judge(job.splits, "select", task)
    if judging is not None:
        metric, before = judging.metrics[0], judging.answers(reference)

        def drop(outputs: Outputs) -> Interval:
            after = judging.answers(outputs)
            if all(np.array_equal(before[name], after[name]) for name in before):
                return _known(0.0)  # an interval of counts has a width even then
            found = judging.drop(metric, before, after)
            return Interval(100 * found.estimate, 100 * found.low, 100 * found.high, found.confidence)

        return drop
    scores = next((name for name, array in reference.items() if array.ndim == 2 and array.shape[1] > 1), None)
    if scores is not None:
        return lambda outputs: _known(100 * (1 - agreement(reference[scores], outputs[scores])))
    return lambda outputs: _known(max(100 * 10 ** (-snr_db(reference[name], outputs[name]) / 10) for name in reference))


def _known(points: float) -> Interval:
    return Interval(points, points, points)


def _with_margin(points: Interval) -> float:
    """And a standard error: what is chosen on some samples for losing little on them loses more on others.

    An interval at 95 % reaches two up.
    """
    return points.estimate + (points.high - points.estimate) / 2


def _answers(
    files: Mapping[str, Path], options: Mapping[str, str], batches: Iterator[Feeds], backend: str = "ort"
) -> dict[str, NDArray[Any]]:
    """Every output [N, ...] of a graph in a runtime, for all batches together."""
    opened: dict[int, Runner] = {}
    found = []
    with ExitStack() as stack:
        for given in batches:
            size = len(next(iter(given.values())))
            if size not in opened:  # the last batch may be smaller
                load = resolve(LOAD, backend, "runtime")
                opened[size] = stack.enter_context(load(files, options, threads=1, batch=size))
            found.append(opened[size].infer(given))
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}
