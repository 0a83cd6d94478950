"""Compile: every stage in order, each done once."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.bundle import Bundle, open_bundle
from edgeprune.cache import Stage, StageCache
from edgeprune.data.pixels import Pixels
from edgeprune.data.preparing import described
from edgeprune.data.splits import Splits, resolve_splits
from edgeprune.data.wordpiece import Text
from edgeprune.errors import ConfigError, MissingError
from edgeprune.interleaved.settings import Settings
from edgeprune.pipeline.foretold import check_table
from edgeprune.pipeline.job import Job
from edgeprune.pipeline.measure import measure_bundle
from edgeprune.pipeline.places import remember
from edgeprune.progress import SILENT, Progress
from edgeprune.recipe import QUANTIZED, SCHEDULED, WHILE_TRAINING, DataPart, PrunePart, Recipe, kernels, made
from edgeprune.registry import require, unknown
from edgeprune.results import Measured
from edgeprune.targets.target import Target

if TYPE_CHECKING:
    from edgeprune.pipeline import assemble


def compile_bundle(
    recipe: Recipe,
    target: Target,
    *,
    out: Path,
    backends: tuple[str, ...] | None = None,
    cache: StageCache,
    settings: Settings | None = None,
    progress: Progress = SILENT,
    speed_only: bool = False,
) -> tuple[Bundle, Measured]:
    """Train, prune, export, calibrate, quantize, lower, bundle and measure.

    `out` appears whole or stays as it was; it may only replace an older bundle. Where `target` is not this machine
    nothing is timed and accuracy is simulated. What the budgets make of the result is `choose.verdict`'s to say.
    """
    _require()
    from edgeprune.pipeline import assemble  # imports onnx: not before it is known to be here

    out = out.resolve()
    assemble.check_out(out)
    job = prepare(recipe, target, backends, cache, progress, speed_only=speed_only)
    assemble.place(assemble.assemble(job, stages(job)), out)
    remember(job.recipe, out)
    bundle = open_bundle(out)
    return bundle, measure_bundle(bundle, cache=cache, settings=settings, progress=progress)


def _require() -> None:
    require("torch", "torch_pruning", "onnx", "onnx_ir", "onnxsim", "safetensors", "onnxruntime", extra="compile")


def prepare(
    recipe: Recipe,
    target: Target,
    backends: tuple[str, ...] | None,
    cache: StageCache,
    progress: Progress = SILENT,
    *,
    speed_only: bool = False,
) -> Job:
    """The job, once everything was refused that can be without work."""
    _require()
    _check_backends(target, backends, recipe.quantize.precision)
    _check_budgets(recipe, target)
    _check_plan(recipe)
    _check_pruning(recipe, speed_only)
    _tell_of_seven_bits(recipe, target, backends, progress)
    splits = resolve_splits(_with_own(recipe, progress), trains=_trains(recipe, speed_only))
    return Job(_unpruned(recipe, splits, progress), target, splits, cache, progress, backends, speed_only)


def stages(job: Job) -> assemble.Parts:
    """Every stage up to the bundle in order, each done once."""
    # they import torch and onnx: not before both are here
    from edgeprune.pipeline import artifact, assemble, lowered, network, precision

    kept, suited, load = None, None, None
    if job.from_onnx:
        weights, dense = None, artifact.adopt(job, Path(job.recipe.model))
        kept, exported = artifact.given(job, Path(job.recipe.model)), dense
    else:
        network.check_pruning(job)
        trained = network.train(job)
        suited = partial(network.check_suited, job, trained)
        dense = artifact.export(job, trained, partial(network.dense, job, trained))
        weights = pruned_network(job, trained, dense)
        exported, load = dense, partial(network.pruned, job, weights)
        if job.recipe.prune.pruner != "none":
            exported = artifact.export(job, weights, load)
    wanted = variants(job.target, job.backends, job.recipe.quantize.precision)
    quantizes = kept is None and any(narrow in QUANTIZED for _, narrow in wanted)
    quantization = precision.decide(job, dense, exported, load, suited) if quantizes else None
    tuned = quantization
    if quantization is not None and weights is not None and job.tunes:
        better = network.tune(job, weights, quantization, job.recipe.quantize.precision)
        tuned = replace(quantization, exported=artifact.export(job, better, partial(network.pruned, job, better)))

    def variant(backend: str, narrow: str) -> Stage:
        if narrow not in QUANTIZED:
            return lowered.lower(job, exported, backend, narrow)
        if quantization is None or tuned is None:
            assert kept is not None
            return lowered.lower_given(job, kept, backend)
        asked = narrow == job.recipe.quantize.precision
        return lowered.lower_quantized(job, tuned if asked else quantization, backend, narrow)

    return assemble.Parts(
        weights,
        dense,
        exported,
        lowered.lower(job, dense, "ort", "fp32"),
        [(backend, narrow, variant(backend, narrow)) for backend, narrow in wanted],
        None if quantization is None else quantization.plan,
    )


def pruned_network(job: Job, trained: Stage, exported: Stage) -> Stage:
    """The network without what its pruner removed, trained on; `exported` is the dense graph."""
    from edgeprune.pipeline import network, priced

    prices = partial(priced.prices, job, exported) if job.recipe.prune.cost == "latency" else None
    return network.recover(job, network.prune(job, trained, prices), trained, prices)


def variants(target: Target, backends: tuple[str, ...] | None, narrowest: str) -> list[tuple[str, str]]:
    """Backend and precision of every variant: down to the one asked for, from those that the target executes."""
    chosen = {name: use for name, use in target.backends.items() if backends is None or name in backends}
    return [
        (name, precision)
        for name, use in chosen.items()
        for precision in made(narrowest)
        if kernels(precision) in use.precisions
    ]


def _check_backends(target: Target, backends: tuple[str, ...] | None, narrowest: str) -> None:
    for backend in backends or ():
        if backend not in target.backends:
            raise unknown(f"backend of target {target.name}", backend, target.backends)
    chosen = {name: use for name, use in target.backends.items() if backends is None or name in backends}
    if not any(kernels(narrowest) in use.precisions for use in chosen.values()):
        offered = sorted({precision for use in chosen.values() for precision in use.precisions})
        raise ConfigError(
            f"target {target.name} does not execute {narrowest} in {', '.join(chosen)}: {', '.join(offered)}"
        )


def _tell_of_seven_bits(recipe: Recipe, target: Target, backends: tuple[str, ...] | None, progress: Progress) -> None:
    """Where weights lose a bit for nothing but a line that is missing in a target file."""
    on_cpu = (
        name != "tensorrt" and narrow in QUANTIZED
        for name, narrow in variants(target, backends, recipe.quantize.precision)
    )
    if target.reduced_range and not target.isa and any(on_cpu):
        progress.say(
            f"{target.name}: no `isa` says which instruction sets it has, so 8-bit weights keep to 7 bits, which is"
            " right on every x86_64. With VNNI the eighth can be had, once the target file states it:"
            " `edgeprune targets detect` writes one on the device"
        )


def _check_plan(recipe: Recipe) -> None:
    from edgeprune.quantize.plan_file import check_plan_file  # imports onnx

    if recipe.quantize.plan is not None:
        check_plan_file(recipe.quantize.plan)


def _check_budgets(recipe: Recipe, target: Target) -> None:
    if recipe.latency_table is not None:
        check_table(recipe.latency_table, target)
    elif recipe.budgets.max_latency_ms is not None and not target.local:
        raise MissingError(
            f"a latency budget cannot be judged: {target.name} is not this machine: give --latency-table FILE, which"
            " `edgeprune bench BUNDLE --operators` writes on the device, or compile there with --target cpu"
        )


def _with_own(recipe: Recipe, progress: Progress) -> DataPart:
    """What a pretrained model brings for its samples, unless another is given: a tokenizer, how to treat images."""
    from edgeprune.models.pretrained import processor_of, tokenizer_of

    part = recipe.data
    if not recipe.model.startswith("hf:"):
        return part
    processor, tokenizer = part.preprocess or processor_of(recipe.model), part.vocabulary or tokenizer_of(recipe.model)
    images = part.model_copy(update={"preprocess": processor})
    if processor is None and tokenizer is not None:
        return part.model_copy(update={"vocabulary": tokenizer})
    kind = described(images).preprocess
    if isinstance(kind, Pixels):
        if processor is None:
            progress.say(f"{recipe.model}: no preprocessor_config.json lies with it: images are as {part.name} says")
        return images
    if tokenizer is None and isinstance(kind, Text):
        raise ConfigError(
            f"{recipe.model}: no tokenizer.json or vocab.txt lies with it: give its own with --vocabulary"
        )
    return part.model_copy(update={"vocabulary": tokenizer})


def _trains(recipe: Recipe, speed_only: bool) -> bool:
    """Whether weights are trained, at first or once pruned: then no row that trains may judge."""
    recovers = "pruner" in recipe.prune.model_fields_set and recipe.prune.pruner != "none"
    return not speed_only and not recipe.is_graph and (not recipe.has_weights or recovers)


def _check_pruning(recipe: Recipe, speed_only: bool) -> None:
    """Refuse what contradicts itself, before any work."""
    part = recipe.prune
    if part.pruner == "none" or recipe.is_graph:
        return
    if part.sparsity is not None and "keep" in part.model_fields_set:
        raise ConfigError("--sparsity says what goes of the weights, --keep what stays of the cost: give one of them")
    if part.sparsity is not None and part.cost == "latency":
        raise ConfigError(
            "prune.sparsity says what goes of the weights, prune.cost: latency what stays of the time: give one of them"
        )
    if part.pruner == "loss" and part.loss.threshold and {"keep", "sparsity"} & part.model_fields_set:
        raise ConfigError(
            "prune.loss.threshold says how far the loss may change, --keep or --sparsity what stays: give one of them"
        )
    if part.pruner == "loss" and "schedule" in part.model_fields_set and part.schedule == "one-shot":
        raise ConfigError("prune.schedule: one-shot: --pruner loss removes after every epoch: cubic or linear")
    if part.pruner == "dynamic":
        _check_dynamic(part)
    if part.cost == "latency" and recipe.latency_table is None:
        raise ConfigError(
            "prune.cost: latency: give --latency-table FILE, which `edgeprune bench BUNDLE --operators` writes"
        )
    idle = {"epochs", "removals"} & part.model_fields_set
    if idle and "schedule" not in part.model_fields_set and part.pruner not in WHILE_TRAINING:
        raise ConfigError(f"prune.{min(idle)}: all goes at once: say prune.schedule, linear or cubic, or leave it out")
    epochs = recipe.train.after_pruning
    gradual = part.schedule != "one-shot" and part.pruner not in WHILE_TRAINING
    if gradual and part.epochs > epochs and not speed_only:
        raise ConfigError(
            f"prune.epochs: {part.epochs:g} epochs of pruning do not fit into the {epochs} that follow on the dense"
            " network: raise train.recover_epochs, or prune in fewer"
        )
    if part.pruner in WHILE_TRAINING:
        if part.remove == "blocks":
            raise ConfigError(
                f"prune.remove: blocks: --pruner {part.pruner} leaves blocks where they are: leave it out"
            )
        if part.fractions and part.pruner != "loss":
            raise ConfigError(f"prune.fractions: --pruner {part.pruner} has no regard to them: leave them out")
        if speed_only:
            raise ConfigError(f"--pruner {part.pruner} prunes while it trains: not with --speed-only")
        if epochs == 0:
            raise ConfigError(
                f"--pruner {part.pruner} prunes while it trains, and no epochs are asked for: raise"
                " train.recover_epochs"
            )
        if recipe.quantize.epochs:
            raise ConfigError(
                f"quantize.epochs: weights that --pruner {part.pruner} dropped would move again: leave it out"
            )
    if part.pruner == "rl":
        if part.rl.reward.latency and part.cost != "latency":
            raise ConfigError("prune.rl.reward.latency: nothing foretells it without `cost: latency` and a table")
        if part.rl.policy is not None and part.rl.random:
            raise ConfigError("prune.rl.policy decides by what it learned, prune.rl.random does not: give one of them")
        if part.rl.policy is None and not part.rl.random:
            if part.cost == "latency" and not part.rl.reward.latency:
                raise ConfigError(
                    "prune.cost: latency: the agent would be paid for no millisecond: say prune.rl.reward.latency, as"
                    " 0.4, and what flops are worth beside it, as 0"
                )
            require("gymnasium", "stable_baselines3", extra="agent")
    if part.pruner == "taylor" and speed_only:
        raise ConfigError("--pruner taylor looks at gradients of trained weights: not with --speed-only")


def _check_dynamic(part: PrunePart) -> None:
    """Refuse what would change nothing."""
    how = part.dynamic
    if part.cost == "latency":
        raise ConfigError("prune.cost: latency: weights that --pruner dynamic drops take the time that they took")
    told = [*({"keep", "sparsity"} & part.model_fields_set), *({"distribution"} & how.model_fields_set)]
    if how.pattern is not None and told:
        raise ConfigError(f"prune.dynamic.pattern: {how.pattern} says what stays, and so does {told[0]}: leave one out")
    used = SCHEDULED[how.schedule]
    if idle := how.model_fields_set & {key for keys in SCHEDULED.values() for key in keys if key not in used}:
        raise ConfigError(f"prune.dynamic.{min(idle)}: has no effect with schedule {how.schedule}: leave it out")


def _unpruned(recipe: Recipe, splits: Splits, progress: Progress) -> Recipe:
    """What is not pruned unless it is asked for: texts, whose training takes long. Asking it of a graph is refused."""
    asked = "pruner" in recipe.prune.model_fields_set
    if recipe.prune.pruner == "none" or (not recipe.is_graph and (asked or isinstance(splits.preprocess, Pixels))):
        return recipe
    if recipe.is_graph and asked:
        raise ConfigError(
            f"{recipe.model}: an ONNX file cannot be pruned: give the module as file.py:factory, or --pruner none"
        )
    if not recipe.is_graph:
        progress.say(
            f"prune: {recipe.model} stays whole: networks for anything but images are pruned with --pruner only"
        )
    return recipe.model_copy(update={"prune": recipe.prune.model_copy(update={"pruner": "none"})})
