"""Single stages of the flow, file in, file out."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from edgeprune.backends import LOWER
from edgeprune.bundle import Task
from edgeprune.cache import Stage
from edgeprune.data.judges import judge
from edgeprune.errors import BudgetError, ConfigError, InputError, OutputError
from edgeprune.file_hash import sha256_of
from edgeprune.graph.load import read_onnx
from edgeprune.graph.quantized import is_quantized
from edgeprune.metrics import Interval
from edgeprune.pipeline import agent, artifact, network
from edgeprune.pipeline.compile import pruned_network
from edgeprune.pipeline.job import Job
from edgeprune.pipeline.lowered import VARIANT, lower_quantized
from edgeprune.pipeline.precision import Lost, decide, lost
from edgeprune.recipe import QUANTIZED, Budgets, kernels
from edgeprune.registry import resolve, unknown
from edgeprune.results import MB
from edgeprune.targets.target import Target
from edgeprune.whole_file import whole


@dataclass(frozen=True)
class Made:
    """What a stage left, and what can be said of it."""

    files: tuple[Path, ...]
    facts: dict[str, Any]


def train(job: Job, out: Path) -> Made:
    """Trained weights as safetensors, and how well they do in PyTorch on the splits that judge."""
    _check_module(job, "train")
    if job.recipe.has_weights:
        raise ConfigError(f"{job.recipe.model}: comes with its weights: nothing is to be trained")
    _check_out(out, _reads(job))
    stage = network.train(job)
    scores = _scores(job, network.dense(job, stage))
    (file,) = _deliver({stage.folder / network.DENSE: out})
    return Made((file,), {"sha256": sha256_of(file), "scores": scores})


def prune(job: Job, out: Path) -> Made:
    """A folder with the pruned network's weights, how it was cut, and what was left whole and why."""
    _check_module(job, "prune")
    if job.recipe.prune.pruner == "none":
        raise ConfigError("prune: nothing to do with --pruner none: choose another")
    names = ["pruned.safetensors", "architecture.json", network.PRUNING]
    _check_out(out, _reads(job), *names)
    network.check_pruning(job)
    trained = network.train(job)
    dense = artifact.export(job, trained, partial(network.dense, job, trained)) if _is_priced(job) else trained
    stage = pruned_network(job, trained, dense)
    scores = _scores(job, network.pruned(job, stage))
    names += [name for name in agent.FILES if (stage.folder / name).is_file()]
    files = _deliver({stage.folder / name: out / name for name in names})
    return Made(files, {"pruning": json.loads((stage.folder / network.PRUNING).read_bytes()), "scores": scores})


def export(job: Job, out: Path, cut: Path | None = None) -> Made:
    """The network as a clean ONNX file that computes the same; `cut`: what `prune` left, taken in its place."""
    _check_module(job, "export")
    _check_out(out, [*_reads(job), *(_of_pruned(cut) if cut is not None else [])])
    if cut is not None:
        hashes = "".join(sha256_of(path) for path in _of_pruned(cut))
        weights: Stage | str = f"{network.factory(job)['source']}{hashes}"
        load = partial(network.reloaded, job, cut)
    else:
        weights = network.train(job)
        load = partial(network.dense, job, weights)
    stage = artifact.export(job, weights, load)
    facts = artifact.read_facts(stage)
    (file,) = _deliver({stage.folder / artifact.MODEL: out})
    told = {"exporter": facts.exporter, "notes": facts.notes, "parity": facts.parity, "macs": facts.macs}
    return Made((file,), {"sha256": sha256_of(file), **told})


def quantize(job: Job, backend: str, out: Path) -> Made:
    """An ONNX file with the job's graph in integers, in one runtime's spelling, and each layer's precision.

    Raises BudgetError where that is larger than may be, or loses more than may be on the samples that select; the file
    is there then too.
    """
    precision = job.recipe.quantize.precision
    if precision not in QUANTIZED:
        raise ConfigError(f"quantize: {precision} is not a precision of integers: {', '.join(QUANTIZED)}")
    _check_backend(job.target, backend, precision)
    if not job.from_onnx:
        raise ConfigError(f"{job.recipe.model}: quantize takes an ONNX file: make one with `edgeprune export`")
    if artifact.given(job, Path(job.recipe.model)) is not None:
        raise ConfigError(f"{job.recipe.model}: is quantized already: give the float model, or lower it as it is")
    _check_out(out, _reads(job))
    exported = artifact.adopt(job, Path(job.recipe.model))
    job = replace(job, backends=(backend,))  # plans are tried in its spelling
    decided = decide(job, exported, exported, None, None)
    stage = lower_quantized(job, decided, backend, precision)
    record = json.loads((stage.folder / VARIANT).read_bytes())
    (file,) = _deliver({stage.folder / record["files"]["model"]: out})
    _check_size(file, job.recipe.budgets)
    facts = {"sha256": sha256_of(file), "layers": record["layers"]}
    if _is_judged(job):
        found = lost(job, exported, stage, backend)
        _check_drop(file, found, job.recipe.budgets)
        facts["lost"] = asdict(found)
    return Made((file,), facts)


def _is_judged(job: Job) -> bool:
    """Whether somebody said what may be lost: the user, or the search of `mixed`, which goes by it."""
    part = job.recipe.quantize
    return "max_drop" in job.recipe.budgets.model_fields_set or (part.precision == "mixed" and part.plan is None)


def _check_size(file: Path, budgets: Budgets) -> None:
    size_mb = file.stat().st_size / MB
    if budgets.max_size_mb is not None and size_mb > budgets.max_size_mb:
        raise BudgetError(f"{file}: is {size_mb:.3f} MB, {budgets.max_size_mb:g} allowed: the smallest that was found")


def _check_drop(file: Path, found: Lost, budgets: Budgets) -> None:
    """As `choose` judges variants: by what is lost on the samples that select, without a margin."""
    if found.points > budgets.max_drop + 1e-9:
        raise BudgetError(
            f"{file}: loses {found.points:.2f} points on the select split ({found.source}), {budgets.max_drop:g}"
            " allowed: change that (--max-drop) or the bits of layers (--precision, --plan)"
        )


def lower(file: Path, target: Target, backend: str, precision: str, out: Path, *, ir: bool = False) -> Made:
    """An ONNX file, already in the runtime's own spelling, as what travels to the device: checked, with its options.

    `ir`: as OpenVINO's own format, which a bundle does not hold, for it is read there as ONNX too.
    """
    if ir and backend != "openvino":
        raise ConfigError(f"--ir writes OpenVINO's own format, --backend is {backend}: leave one of them out")
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    _check_backend(target, backend, precision)
    if is_quantized(read_onnx(file)) != (precision in QUANTIZED):
        stands = "is quantized" if precision not in QUANTIZED else "is not quantized: `edgeprune quantize` does that"
        raise ConfigError(f"{file}: {stands}: it cannot be lowered to {precision}")
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        lowered = resolve(LOWER, backend, "backend")(file, target, precision, Path(folder))
        travelling = tuple(lowered.files.values())
        if ir:
            from edgeprune.backends.openvino.run import write_ir  # imports OpenVINO

            travelling = write_ir(lowered.files["model"], Path(folder))
        copies = {path: out / path.relative_to(folder) for path in travelling}
        _check_out(out, [file], *(path.relative_to(folder).as_posix() for path in travelling))
        files = _deliver(copies)
    return Made(files, {"options": lowered.options, "unproven": lowered.unproven})


def _check_backend(target: Target, backend: str, precision: str) -> None:
    if backend not in target.backends:
        raise unknown(f"backend of target {target.name}", backend, target.backends)
    offered = target.backends[backend].precisions
    if kernels(precision) not in offered:
        raise ConfigError(f"target {target.name} does not execute {precision} in {backend}: {', '.join(offered)}")


def _is_priced(job: Job) -> bool:
    """Whether operators' times decide what is pruned, so that the dense graph is needed."""
    return job.recipe.prune.cost == "latency"


def _of_pruned(folder: Path) -> list[Path]:
    files = [folder / name for name in ("pruned.safetensors", "architecture.json")]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: missing: give a folder that `edgeprune prune` wrote")
    return files


def _check_module(job: Job, what: str) -> None:
    if job.from_onnx:
        raise ConfigError(
            f"{job.recipe.model}: {what} takes a torch module: a name of the zoo, file.py:factory or hf:ID"
        )


def _scores(job: Job, model: Any) -> dict[str, dict[str, Interval]]:
    """Score by split and metric; nothing of random weights or unlabelled rows."""
    found: dict[str, dict[str, Interval]] = {}
    for split in job.splits.reported if job.metrics else ():
        threshold = 0.5 if network.gives_probability(job, model) else 0.0
        judging = judge(job.splits, split, Task(job.splits.info.task, job.metrics, threshold))
        if judging is not None:
            answers = judging.answers(network.outputs(job, model, split))
            found[split] = {metric.name: judging.value(metric, answers) for metric in judging.metrics}
    return found


def _reads(job: Job) -> list[Path]:
    """The files that a job is given."""
    recipe = job.recipe
    given = (Path(recipe.model.rpartition(":")[0] or recipe.model), Path(recipe.model), recipe.weights)
    return [path for path in (*given, recipe.quantize.plan, recipe.latency_table) if path is not None]


def _check_out(out: Path, reads: Iterable[Path], *names: str) -> None:
    """Refuse a place, or files of these names in it, that is what the stage is made from. Raises OutputError."""
    for made in [out / name for name in names] or [out]:
        for path in reads:
            if made.is_file() and path.is_file() and made.samefile(path):
                raise OutputError(f"{made}: is what is read, and would be lost: choose another --out")


def _deliver(copies: dict[Path, Path]) -> tuple[Path, ...]:
    """Copy files so that each appears whole. Raises OutputError."""
    for source, out in copies.items():
        _make_folder(out.parent)
        try:
            with whole(out) as partial:
                shutil.copyfile(source, partial)
        except OSError as error:
            raise OutputError(f"{out}: cannot be written ({error.strerror}): choose another --out") from error
    return tuple(copies.values())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}): choose another --out") from error
