"""Put what the stages made into a bundle, and the bundle where the user wants it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from edgeprune.arrays import save_arrays
from edgeprune.backends import LOAD
from edgeprune.bundle import CORE, OUTSIDE, PLAN, LayerPlan, Task, Variant, open_bundle, seal
from edgeprune.cache import RECORD, Stage
from edgeprune.data.preprocess import feeds, write_preprocess
from edgeprune.decisions import PREDICTED, TRIED
from edgeprune.errors import CorruptError, InputError, OutputError
from edgeprune.file_hash import sha256_of
from edgeprune.latency_table import FILE
from edgeprune.pipeline.artifact import MODEL, read_facts
from edgeprune.pipeline.deploy import snippets, write_snippets
from edgeprune.pipeline.job import Job, versions
from edgeprune.pipeline.lowered import VARIANT
from edgeprune.pipeline.network import PRUNING
from edgeprune.pipeline.places import portable
from edgeprune.registry import resolve

SAMPLES = 4


@dataclass(frozen=True)
class Parts:
    """Everything that goes into one bundle."""

    network: Stage | None
    """The pruned torch model; None where the model came as a graph."""
    dense: Stage
    """The unpruned graph."""
    exported: Stage
    """The graph that the variants hold; `dense` itself where nothing was pruned."""
    baseline: Stage
    """The unpruned graph, lowered to ONNX Runtime in FP32."""
    variants: Sequence[tuple[str, str, Stage]]
    """Backend, precision and files."""
    plan: Stage | None = None
    """What the mixed variants are; None where there are none."""

    @property
    def baseline_is_variant(self) -> bool:
        """Whether the baseline is the FP32 variant itself, so that the same file is not kept and timed twice."""
        return any(stage.key == self.baseline.key for _, _, stage in self.variants)


def assemble(job: Job, parts: Parts) -> Stage:
    """A sealed bundle."""

    def work(folder: Path) -> None:
        splits, recipe, facts = job.splits, portable(job.recipe), read_facts(parts.exported)
        variants = [
            _take(stage, backend, precision, folder, f"{backend}-{precision}")
            for backend, precision, stage in parts.variants
            if stage.key != parts.baseline.key
        ]
        kept_as = "ort-fp32" if parts.baseline_is_variant else "baseline"
        baseline = _take(parts.baseline, "ort", "fp32", folder, kept_as)
        write_preprocess(splits.preprocess, folder)
        if splits.info.classes:
            _write_json(folder / "labels.json", list(splits.info.classes))
        (folder / "target.yaml").write_text(yaml.safe_dump(job.target.model_dump(mode="json"), sort_keys=False))
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
        if parts.plan is not None:
            for name in (PLAN, TRIED, PREDICTED):
                if (parts.plan.folder / name).is_file():
                    shutil.copyfile(parts.plan.folder / name, folder / name)
        if job.recipe.latency_table is not None:
            shutil.copyfile(job.recipe.latency_table, folder / FILE)
        pruning = {"pruner": "none"}
        if parts.network is not None:
            for name in ("pruned.safetensors", "architecture.json"):
                shutil.copyfile(parts.network.folder / name, folder / name)
            pruning = json.loads((parts.network.folder / PRUNING).read_bytes())
        samples = _samples(job, parts.exported)
        save_arrays(folder / "samples.npz", samples)
        runnable = [baseline, *variants] if parts.baseline_is_variant else variants
        write_snippets(runnable, facts.inputs, facts.outputs, samples, job.target.threads, folder)
        core = {
            "model": recipe["model"],
            "target": job.target.name,
            "inputs": facts.inputs,
            "outputs": facts.outputs,
            "task": Task(splits.info.task, job.metrics, facts.threshold),
            "untrained": job.untrained,
            "baseline": baseline,
            "variants": tuple(variants),
            "splits": splits.record(),
            "budgets": job.recipe.budgets.model_dump(),
            "pruning": pruning | {"macs_dense": read_facts(parts.dense).macs, "macs": facts.macs},
            "assumptions": job.target.assumes,
            "versions": versions(),
            "seed": job.recipe.seed,
            "command": _command(job),
            "recipe": recipe,
        }
        seal(folder, core)

    inputs = {
        "baseline": parts.baseline,
        "dense": parts.dense,
        "exported": parts.exported,
        "network": parts.network,
        "plan": parts.plan,
        "variants": [[backend, precision, stage.key] for backend, precision, stage in parts.variants],
        "recipe": portable(job.recipe),
        "latency_table": None if job.recipe.latency_table is None else sha256_of(job.recipe.latency_table),
        "splits": TypeAdapter(dict[str, Any]).dump_python(job.splits.record(), mode="json"),
        "target": job.target.model_dump(mode="json"),
        "command": _command(job),
        "preprocess": job.splits.preprocess.to_json(),
        "classes": list(job.splits.info.classes),
        "snippets": snippets(),
    }
    return job.stage("bundle", inputs, work, code=("bundle", "pipeline", "backends", "data"))


def check_out(out: Path) -> None:
    """Refuse, before any work, a place where the bundle could not be put. `out` is absolute.

    Raises OutputError where `out` is a file, is the folder we stand in, holds anything that no bundle of ours put there
    (which a new one would wipe), or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file: choose another --out")
    if out in (here := Path.cwd(), *here.parents):
        raise OutputError(f"{out}: is the folder you are in, or one around it: choose another --out")
    if foreign := _foreign(out):
        raise OutputError(f"{out}: holds '{foreign}', which is not of a bundle and would be lost: choose another --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        probe = _beside(out, "probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{out.parent}: cannot be written ({error.strerror}): choose another --out") from error


def _foreign(out: Path) -> str | None:
    """The first file in `out` that its bundle does not account for; of a damaged bundle, its record."""
    try:
        named = json.loads((out / CORE).read_bytes())["sha256"].keys() if (out / CORE).exists() else set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return CORE
    ours = {*named, *OUTSIDE} if named else set()
    found = (path.relative_to(out).as_posix() for path in sorted(out.rglob("*")) if not path.is_dir())
    return next((name for name in found if name not in ours), None)


def place(stage: Stage, out: Path) -> None:
    """Copy a sealed bundle to `out` so that it appears whole; an equal one there stays, measurements and all."""
    try:
        if open_bundle(out).sha256 == open_bundle(stage.folder).sha256:
            return
    except (InputError, CorruptError):
        pass  # none there, or a damaged one: replaced
    _sweep(out)
    partial, old = _beside(out, "partial"), _beside(out, "old")
    try:
        for path in sorted(stage.folder.rglob("*")):
            if path.is_file() and path.name != RECORD:
                copy = partial / path.relative_to(stage.folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
        if out.exists():
            out.rename(old)
        partial.rename(out)
    except OSError as error:
        raise OutputError(
            f"{out}: the bundle cannot be written ({error}): make room or choose another --out"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _samples(job: Job, exported: Stage) -> dict[str, Any]:
    """A few real inputs and what the float graph answers, by name: with them a device can check itself."""
    inputs = feeds(read_facts(exported).inputs, job.tensors("select", SAMPLES), job.splits.info.name)
    files = {"model": exported.folder / MODEL}
    disable, batch = {"graph_optimization": "disable"}, len(next(iter(inputs.values())))
    with resolve(LOAD, "ort", "runtime")(files, disable, threads=1, batch=batch) as runner:
        return {**inputs, **runner.infer(inputs)}


def _take(stage: Stage, backend: str, precision: str, folder: Path, name: str) -> Variant:
    """Copy a lowered variant's files into the bundle."""
    record = json.loads((stage.folder / VARIANT).read_bytes())
    place = Path("baseline") if name == "baseline" else Path("variants") / name
    files = {}
    for role, relative in record["files"].items():
        (folder / place / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(stage.folder / relative, folder / place / relative)
        files[role] = (place / relative).as_posix()
    layers = tuple(LayerPlan(**layer) for layer in record["layers"])
    return Variant(name, backend, precision, files, record["options"], layers, record["unproven"])


def _command(job: Job) -> str:
    """To be typed in the bundle's folder; whatever files of the user went into it must lie there, too."""
    options = [f"--backend {backend}" for backend in job.backends or ()] + ["--speed-only"] * job.untrained
    return " ".join(["edgeprune compile --recipe recipe.yaml --target target.yaml --out ../again", *options])


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _beside(out: Path, what: str) -> Path:
    return out.with_name(f".{out.name}.{os.getpid()}.{what}")


def _sweep(out: Path) -> None:
    """Remove what killed processes left beside `out`."""
    for path in out.parent.glob(f".{out.name}.*.*"):
        pid = path.name.split(".")[-2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
