"""The public functions: one job as keyword arguments, a bundle to open, load and measure."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgeprune.backends import LOAD
from edgeprune.backends.backend import Feeds, Runner
from edgeprune.bundle import Bundle, Variant, open_bundle
from edgeprune.cache import StageCache
from edgeprune.errors import ConfigError, DataError, EdgePruneError, InputError, MissingError
from edgeprune.progress import SILENT, Progress
from edgeprune.recipe import QUANTIZED, WHILE_TRAINING, Recipe, read_yaml, validated
from edgeprune.registry import resolve
from edgeprune.results import Measured
from edgeprune.shipped import find
from edgeprune.targets.load import load_target
from edgeprune.targets.target import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeprune.pipeline.forecast import Forecast
    from edgeprune.pipeline.job import Job
    from edgeprune.serving.policy import Policy
    from edgeprune.serving.session import AdaptiveRunner

OPTIONS = {
    "model": ("model",),
    "weights": ("weights",),
    "data": ("data", "name"),
    "calibration": ("data", "calibration"),
    "preprocess": ("data", "preprocess"),
    "vocabulary": ("data", "vocabulary"),
    "length": ("data", "length"),
    "task": ("data", "task"),
    "metric": ("data", "metric"),
    "inputs": ("data", "inputs"),
    "pruner": ("prune", "pruner"),
    "keep": ("prune", "keep"),
    "sparsity": ("prune", "sparsity"),
    "remove": ("prune", "remove"),
    "schedule": ("prune", "schedule"),
    "distill": ("train", "distill"),
    "precision": ("quantize", "precision"),
    "plan": ("quantize", "plan"),
    "quantize_epochs": ("quantize", "epochs"),
    "observer": ("quantize", "observer"),
    "max_drop": ("budgets", "max_drop"),
    "max_latency_ms": ("budgets", "max_latency_ms"),
    "latency_table": ("latency_table",),
    "max_size_mb": ("budgets", "max_size_mb"),
    "epochs": ("train", "epochs"),
    "device": ("train", "device"),
    "seed": ("seed",),
}
"""Where in a recipe an option stands."""

PRUNING = ("keep", "sparsity", "remove", "schedule", "distill")
"""Options that say how a pruner works."""


class Idle(NamedTuple):
    """Options that would change nothing in some jobs, and what makes a job one of them."""

    options: tuple[str, ...]
    where: str
    holds: Callable[[Recipe, bool], bool]
    """Of a recipe, and of whether it is for speed only."""


IDLE = (
    Idle(
        ("weights", *PRUNING, "epochs", "device"),
        "on an ONNX file, which is neither trained nor pruned",
        lambda recipe, _: recipe.is_graph,
    ),
    Idle(
        ("inputs",),
        "on a torch module, which takes what the data give",
        lambda recipe, _: not recipe.is_graph,
    ),
    Idle(
        ("weights",),
        "on a pretrained model, which brings its own",
        lambda recipe, _: recipe.model.startswith("hf:"),
    ),
    Idle(
        ("weights", "epochs", "device", "max_drop", "schedule", "distill"),
        "with --speed-only, which leaves the weights untrained and says nothing of accuracy",
        lambda _, speed_only: speed_only,
    ),
    Idle(("observer",), "where nothing is quantized", lambda recipe, _: recipe.quantize.precision not in QUANTIZED),
    Idle(
        ("plan",),
        "without --precision mixed, which it is the plan of",
        lambda recipe, _: recipe.quantize.precision != "mixed",
    ),
    Idle(
        ("quantize_epochs",),
        "where nothing is quantized or trained",
        lambda recipe, speed_only: recipe.is_graph or speed_only or recipe.quantize.precision not in QUANTIZED,
    ),
    Idle(
        ("remove",),
        "with a pruner that works while the network is trained, which removes no blocks",
        lambda recipe, _: recipe.prune.pruner in WHILE_TRAINING,
    ),
    Idle(
        ("schedule",),
        "with --pruner dynamic or rl, which have times of their own (prune.dynamic, prune.rl)",
        lambda recipe, _: recipe.prune.pruner in ("dynamic", "rl"),
    ),
    Idle(
        ("distill",),
        "where no epochs follow on the pruning, in which the unpruned network would teach",
        lambda recipe, _: recipe.train.after_pruning == 0,
    ),
    Idle(PRUNING, "without a pruner", lambda recipe, _: recipe.prune.pruner == "none"),
    Idle(
        ("epochs", "device"),
        "where the weights are given and nothing is pruned, so that nothing is trained",
        lambda recipe, _: recipe.has_weights and recipe.prune.pruner == "none",
    ),
)


def compile(
    model: str | None = None,
    *,
    target: str = "cpu",
    recipe: str | Path | None = None,
    out: Path | str | None = None,
    backends: Sequence[str] = (),
    allow_fallback: bool = False,
    speed_only: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
    **options: Any,
) -> Bundle:
    """Train, prune, quantize, lower and measure; the bundle at `out`, `build/<model>-<target>` unless given.

    `options` are those of OPTIONS, named and meant as on the command line; they override the recipe.
    Raises BudgetError where no variant is within the budgets and FallbackError where a layer ran in another precision
    than intended; the bundle and its measurements are there nevertheless.
    """
    bundle, _, error = compile_measured(
        options | {"model": model},
        target=target,
        recipe=recipe,
        out=out,
        backends=backends,
        allow_fallback=allow_fallback,
        speed_only=speed_only,
        force=force,
        progress=progress,
    )
    if error:
        raise error
    return bundle


def compile_measured(
    options: Mapping[str, Any],
    *,
    target: str,
    recipe: str | Path | None,
    out: Path | str | None,
    backends: Sequence[str],
    allow_fallback: bool,
    speed_only: bool,
    force: bool,
    progress: Progress,
) -> tuple[Bundle, Measured, EdgePruneError | None]:
    """What `compile` does, with what was measured, and the error that it raises in the end, if any."""
    from edgeprune.choose import verdict
    from edgeprune.pipeline.compile import compile_bundle

    job, device = recipe_with(options, recipe, speed_only=speed_only), load_target(target)
    bundle, measured = compile_bundle(
        job,
        device,
        out=Path(out) if out is not None else default_out(job, device),
        backends=tuple(backends) or None,
        cache=stage_cache(again=force),
        progress=progress,
        speed_only=speed_only,
    )
    return bundle, measured, verdict(measured, job.budgets, job.quantize.precision, allow_fallback=allow_fallback)


def forecast(
    options: Mapping[str, Any],
    *,
    target: str,
    recipe: str | Path | None,
    out: Path | str | None,
    backends: Sequence[str],
    speed_only: bool,
    force: bool,
    progress: Progress = SILENT,
) -> Forecast:
    """What `compile` would do with the same arguments; nothing is made."""
    from edgeprune.pipeline import forecast as foreseen

    job, device = recipe_with(options, recipe, speed_only=speed_only), load_target(target)
    return foreseen.forecast(
        job,
        device,
        out=Path(out) if out is not None else default_out(job, device),
        backends=tuple(backends) or None,
        cache=stage_cache(again=force),
        speed_only=speed_only,
        progress=progress,
    )


def job_with(
    options: Mapping[str, Any],
    *,
    target: str = "cpu",
    recipe: str | Path | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Job:
    """A job to do single stages of (`pipeline.single`); `options` as `compile` takes them."""
    from edgeprune.pipeline.compile import prepare

    job = recipe_with(options, recipe)
    return prepare(job, load_target(target), None, stage_cache(again=force), progress)


def open(path: Path | str) -> Bundle:
    """Read and verify a bundle. Raises InputError where there is none, CorruptError where a file was altered."""
    return open_bundle(Path(path))


def load(
    bundle: Bundle | Path | str,
    variant: str | None = None,
    *,
    threads: int = 1,
    batch: int = 1,
    adaptive: bool = False,
    **serving: Any,
) -> Runner:
    """Open a variant, the bundle's default unless named, in its runtime on this machine; close it, or use it in `with`.

    A bundle's folder stands for what `open` makes of it. `adaptive`: several at once, each request with the precision
    that the load allows: see `load_adaptive`, which takes `serving`. Raises UnknownNameError for a variant that it has
    not, MissingError where the runtime is not here.
    """
    if not isinstance(bundle, Bundle):
        bundle = open(bundle)
    if adaptive:
        if variant is not None:
            raise ConfigError(f"variant {variant} and adaptive exclude each other: say `precisions` instead")
        return load_adaptive(bundle, threads=threads, batch=batch, **serving)
    if serving:
        raise ConfigError(f"{', '.join(sorted(serving))} has no effect without adaptive=True")
    chosen = chosen_variant(bundle, variant)
    if chosen.backend not in LOAD:
        raise MissingError(f"{chosen.name}: {chosen.backend} runs on its device only; here: {', '.join(sorted(LOAD))}")
    runner: Runner = resolve(LOAD, chosen.backend, "runtime")(
        bundle.files(chosen), chosen.options, threads=threads, batch=batch
    )
    return runner


def load_adaptive(
    bundle: Bundle,
    *,
    policy: str | Policy = "accuracy",
    precisions: Sequence[str] = (),
    deadline_ms: float | None = None,
    hold: int = 50,
    floors: Mapping[str, str] | None = None,
    memory_mb: float | None = None,
    threads: int = 1,
    batch: int = 1,
) -> AdaptiveRunner:
    """A runner that holds the fastest variant of each precision, among which the policy chooses; see `docs/serving.md`.

    `policy`: `accuracy`, `threshold`, `fixed:<precision>`, `file.py:function`, or a function; `deadline_ms`: 50
    inferences of the most precise unless given; `hold`: requests for which a change binds; `floors`: the least
    precision by class of request; `memory_mb`: what the variants may take together. Raises InputError where the bundle
    has less than two variants to choose from, BudgetError where no variant meets the deadline.
    """
    from edgeprune.pipeline.serving import open_session, policy_named, sampler_of

    chosen = policy_named(policy) if isinstance(policy, str) else policy
    sampler, _ = sampler_of(bundle)
    return open_session(
        bundle,
        chosen,
        precisions=precisions,
        deadline_ms=deadline_ms,
        hold=hold,
        floors=floors,
        memory_mb=memory_mb,
        threads=threads,
        batch=batch,
        sampler=sampler,
    )


def predict(bundle: Bundle | Path | str, feeds: Feeds, variant: str | None = None) -> dict[str, NDArray[Any]]:
    """Every output for samples [N, ...] by input name, in runs of the size that the model fixes, else one by one.

    Raises what `load` raises, and DataError where an array does not fit, or there are no samples.
    """
    import numpy as np

    with load(bundle, variant) as runner:
        step = int(runner.inputs[0].shape[0]) if runner.inputs[0].shape else 1
        arrays = {name: np.asarray(array) for name, array in feeds.items()}
        samples = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
        if {*samples} != {*runner.input_names}:
            runner.infer(arrays)  # which says what the model takes
        if len({*samples.values()}) > 1 or not min(samples.values()):
            told = ", ".join(f"{count} of '{name}'" for name, count in samples.items())
            raise DataError(f"samples: {told}: give one at least, and as many of every input")
        starts = range(0, max(samples.values()), step)
        found = [runner.infer({name: x[start : start + step] for name, x in arrays.items()}) for start in starts]
    return {name: np.concatenate([np.atleast_1d(one[name]) for one in found]) for name in runner.output_names}


def chosen_variant(bundle: Bundle, name: str | None = None) -> Variant:
    """The variant of that name, else the bundle's default. Raises InputError where there is none yet."""
    return bundle.variant(name if name is not None else _default(bundle))


def bench(
    bundle: Bundle, *, data: str | None = None, metric: str | None = None, progress: Progress = SILENT
) -> Measured:
    """Measure every variant on this machine, again; the bundle keeps what was found.

    `data` (a folder or an .npz file) and `metric` (`file.py:function`) say where those that the bundle was made with
    lie now, if not where they were. Raises InputError where they are not there, DataError where samples are others.
    """
    from edgeprune.pipeline.measure import measure_bundle

    return measure_bundle(bundle, cache=stage_cache(again=True), data=data, metric=metric, progress=progress)


def recipe_with(options: Mapping[str, Any], recipe: str | Path | None = None, *, speed_only: bool = False) -> Recipe:
    """A recipe (the default one, a shipped one by its name, or a file) with what `options` say otherwise (None: not).

    Other data bring their own splits and normalization, so a data option replaces the recipe's whole data part.
    Raises ConfigError where an option has no effect or an impossible value.
    """
    given = {name: value for name, value in options.items() if value is not None and value != ()}
    if unknown := given.keys() - OPTIONS.keys():
        raise ConfigError(f"unknown options {sorted(unknown)}; known are {sorted(OPTIONS)}")
    raw: dict[str, Any] = {} if recipe is None else _read(recipe).model_dump(exclude_unset=True)
    if "data" in given:
        raw["data"] = {}
    for name, value in given.items():
        *parts, last = OPTIONS[name]
        place = raw
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = value
    names = {OPTIONS[name]: _flag(name) for name in given}
    merged = validated(Recipe, raw, str(recipe or "options"), names)
    for idle in IDLE:
        if idle.holds(merged, speed_only) and (vain := [_flag(name) for name in idle.options if name in given]):
            raise ConfigError(f"{', '.join(vain)} has no effect {idle.where}: leave it out")
    return merged


def default_out(recipe: Recipe, target: Target) -> Path:
    """`build/<model>-<target>`, the model without its folder, ending and odd characters."""
    name = re.sub(r"\.(onnx|py)\b", "", recipe.model.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1])
    return Path("build") / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-.')}-{target.name}"


def stage_cache(*, again: bool = False) -> StageCache:
    """Where finished stages are kept: EDGEPRUNE_CACHE, else ~/.cache/edgeprune; `again` does them anew."""
    root = os.environ.get("EDGEPRUNE_CACHE")
    return StageCache(Path(root) if root else Path.home() / ".cache" / "edgeprune", again)


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _read(recipe: str | Path) -> Recipe:
    path = Path(recipe)
    return read_yaml(path if path.suffix in {".yaml", ".yml"} else find("recipes", str(recipe)), Recipe)


def _default(bundle: Bundle) -> str:
    from edgeprune.report.contents import measured_of  # imports what draws tables

    if (measured := measured_of(bundle)) is None:
        raise InputError(f"{bundle.root}: not measured yet: name a variant, or run `edgeprune bench {bundle.root}`")
    if measured.default is None:
        raise InputError(f"{bundle.root}: has no default variant ({measured.default_reason}): name one")
    return measured.default
