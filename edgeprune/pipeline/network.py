"""The stages that make weights: train, prune, recover."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as serialize

from edgeprune.cache import Stage
from edgeprune.data.pixels import Pixels
from edgeprune.data.preprocess import feeds, matched
from edgeprune.data.samples import Samples
from edgeprune.errors import ConfigError, DataError, DivergedError, InputError
from edgeprune.file_hash import sha256_of
from edgeprune.models.calling import inputs_of, run
from edgeprune.models.mismatch import mismatch
from edgeprune.models.pretrained import is_pretrained
from edgeprune.models.zoo import build, load_weights, source_hash
from edgeprune.pipeline import agent, pruners
from edgeprune.pipeline.artifact import read_ranges
from edgeprune.pipeline.job import Job
from edgeprune.pipeline.quantization import Quantization, first_backend
from edgeprune.progress import SILENT
from edgeprune.prune import surgery
from edgeprune.prune.agent.policy import DESCRIPTION, WEIGHTS
from edgeprune.prune.pruner import Pruner
from edgeprune.prune.structured import StructuredPruner
from edgeprune.quantize.emission.flavour import fitted, flavour_for
from edgeprune.quantize.qat import simulate
from edgeprune.recipe import WHILE_TRAINING, TrainPart
from edgeprune.train.evaluate import evaluate_parts
from edgeprune.train.fit import RECOVERY, Epoch, MakeSteps, fit
from edgeprune.train.gradients import gradients
from edgeprune.train.loss import is_probability

if TYPE_CHECKING:
    from edgeprune.prune.agent.environment import PruningEnvironment

DENSE = "dense.safetensors"
PRUNING = "pruning.json"
EPOCHS = "epochs.jsonl"
LAST_GOOD = "last-good"
"""How the training of a stage went, a line an epoch; where one was begun again, later lines count."""
OBSERVING = ("taylor",)
"""Pruners that look at gradients."""
TIMED_STEPS = 4
"""Of training, that tell how long an epoch takes."""
COMPARED = (8, 32)
"""Batches, and samples in each, that are compared with those of the training."""
MOST_MISMATCH = 0.21
"""Of calibration samples; what ResNets give for which samples stands in docs/quantization.md."""


def train(job: Job) -> Stage:
    """Weights of the dense network: given, trained, or (speed only) as they were drawn. A pretrained one has them."""
    recipe = job.recipe
    inputs: dict[str, Any] = {**factory(job), "seed": recipe.seed}
    if recipe.weights is not None:
        if not recipe.weights.is_file():
            raise InputError(f"{recipe.weights}: no such weights file: check --weights or `weights:` in the recipe")
        inputs["weights"] = sha256_of(recipe.weights)
    elif _is_trained_here(job):
        if recipe.train.epochs == 0:
            raise ConfigError("no epochs and no weights: give --weights FILE, --epochs N, or --speed-only")
        inputs |= {"rows": job.splits.fingerprint("train"), "train": _of_dense(recipe.train)}
        inputs["preprocess"] = job.splits.preprocess.to_json()

    def work(folder: Path) -> None:
        model = drawn(job)
        if recipe.weights is not None:
            load_weights(model, recipe.weights)
        elif _is_trained_here(job):
            _fit(job, model, recipe.train.epochs, folder, keep=lambda kept: _write_dense(model, kept))
        _write_dense(model, folder)

    return job.stage("train", inputs, work, code=("models", "train", "data"), resumable=True)


def prune(job: Job, dense: Stage, priced: pruners.Prices | None = None) -> Stage:
    """The network without what its pruner removed, and what that was; whole where nothing goes before it is trained on.

    Where it is pruned while it is trained, it is not the trained one but as that began. `priced` says what layers cost,
    where that is their latency.
    """
    recipe = job.recipe
    afresh = pruners.prunes_while_training(job) and _is_trained_here(job)
    inputs = {**factory(job), "dense": recipe.seed if afresh else dense, "prune": _asked(job)}
    inputs["align"] = job.target.channel_alignment
    if priced is not None and recipe.latency_table is not None:
        inputs["table"] = sha256_of(recipe.latency_table)
    if recipe.prune.pruner != "none" and not isinstance(job.splits.preprocess, Pixels):
        inputs["example"] = job.splits.fingerprint("calibrate")
    if looks := recipe.prune.pruner in OBSERVING and not _is_pruned_in_training(job):
        inputs |= {"rows": job.splits.fingerprint("train"), "batch": recipe.train.batch, "seed": recipe.seed}
        inputs["preprocess"] = job.splits.preprocess.to_json()

    def work(folder: Path) -> None:
        model = drawn(job) if afresh else _loaded(job, dense)
        log, report = surgery.SurgeryLog(), dict[str, Any]()
        if recipe.prune.pruner != "none" and not _is_pruned_in_training(job):
            pruner = pruners.structured(job, model, example(job, model), prices=priced)
            if looks:
                _observe(job, model, pruner)
            pruner.step()
            log, report = pruner.log, asdict(pruner.report)
        surgery.save(folder, model, log, recipe.model, job.arguments)
        _write_pruning(job, folder, report)

    return job.stage("prune", inputs, work, code=("models", "prune", "train", "data"))


def recover(job: Job, pruned: Stage, dense: Stage, priced: pruners.Prices | None = None) -> Stage:
    """The pruned network, trained on, by the unpruned one if that is asked for; or pruned meanwhile."""
    recipe = job.recipe
    part, gradual = _recovery(job), _is_pruned_in_training(job)
    if recipe.prune.pruner == "none" or job.untrained or (part.epochs == 0 and not gradual):
        return pruned
    inputs = {
        "pruned": pruned,
        "rows": job.splits.fingerprint("train"),
        "preprocess": job.splits.preprocess.to_json(),
        "train": part.model_dump(mode="json"),
        "seed": recipe.seed,
    }
    if recipe.train.distill:
        inputs["teacher"] = dense
    policy = learned(job, priced)
    if policy is not None:
        inputs["policy"] = policy
    elif recipe.prune.pruner == "rl" and recipe.prune.rl.policy is not None:
        inputs["policy"] = [sha256_of(recipe.prune.rl.policy / name) for name in (WEIGHTS, DESCRIPTION)]

    def work(folder: Path) -> None:
        model, log = surgery.reload(pruned.folder, recipe.model), surgery.read_log(pruned.folder)
        teacher = _loaded(job, dense) if recipe.train.distill else None
        pruning = (pruned.folder / PRUNING).read_text()
        made: list[Pruner] = []

        def begin(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> Pruner:
            chosen = agent.policy_of(job, policy) if recipe.prune.pruner == "rl" else None
            made.append(pruners.in_training(job, model, example(job, model), optimizer, steps, priced, chosen))
            return made[0]

        def keep(kept: Path) -> None:
            surgery.save(kept, model, made[0].log if gradual else log, recipe.model, job.arguments)

        _fit(job, model, part.epochs, folder, part, teacher=teacher, pruner=begin if gradual else None, keep=keep)
        keep(folder)
        if gradual:
            _write_pruning(job, folder, asdict(made[0].report))
            agent.keep(job, policy, folder)
        else:
            (folder / PRUNING).write_text(pruning)

    return job.stage("recover", inputs, work, code=("models", "train", "prune", "data"), resumable=True)


def learned(job: Job, priced: pruners.Prices | None) -> Stage | None:
    """The stage in which an agent learns its policy; None where nothing is to be learned."""
    how = job.recipe.prune.rl
    if job.recipe.prune.pruner != "rl" or how.random or how.policy is not None:
        return None
    given = job.recipe.weights
    first = {**factory(job), "weights": None if given is None else sha256_of(given)}
    return agent.learn(job, first, partial(_begun, job), example(job, drawn(job)), priced)


def agent_environment(job: Job, priced: pruners.Prices | None = None, *, shuffled: bool = False) -> PruningEnvironment:
    """What an agent learns in, from the network's first weights on."""
    return agent.environment_of(job, partial(_begun, job), example(job, drawn(job)), priced, shuffled=shuffled)


def check_pruning(job: Job) -> None:
    """Refuse what cannot be asked of a pruner, before anything is trained."""
    asked = job.recipe.prune.pruner != "none"
    if pruners.prunes_while_training(job) or (asked and _is_trained_here(job)):
        model = drawn(job)
        pruners.check(job, model, example(job, model))


def tune(job: Job, weights: Stage, quantization: Quantization, precision: str) -> Stage:
    """The network, trained on with the rounding in place that a quantized variant does."""
    recipe = job.recipe
    part = _recovery(job).model_copy(update={"lr": recipe.quantize.lr, "warmup": 0.0})
    inputs = {
        "weights": weights,
        "model": quantization.exported,
        **quantization.inputs(precision),
        "precision": precision,
        "target": job.target.model_dump(mode="json"),
        "backend": first_backend(job),
        "rows": job.splits.fingerprint("train"),
        "preprocess": job.splits.preprocess.to_json(),
        "train": part.model_dump(mode="json"),
        "epochs": recipe.quantize.epochs,
        "seed": recipe.seed,
    }

    def work(folder: Path) -> None:
        model, log = surgery.reload(weights.folder, recipe.model), surgery.read_log(weights.folder)
        flavour = flavour_for(first_backend(job), job.target)
        graph = quantization.graph()
        plan = fitted(quantization.chosen(precision), graph, flavour)
        finish = simulate(model, graph, plan, read_ranges(quantization.ranges), flavour)
        _fit(job, model, recipe.quantize.epochs, folder, part, keep=None)
        finish()
        surgery.save(folder, model, log, recipe.model, job.arguments)
        (folder / PRUNING).write_bytes((weights.folder / PRUNING).read_bytes())

    return job.stage("tune", inputs, work, code=("models", "train", "prune", "data", "quantize"), resumable=True)


def dense(job: Job, trained: Stage) -> torch.nn.Module:
    """The dense network with its weights, in evaluation mode."""
    return _loaded(job, trained).eval()


def pruned(job: Job, recovered: Stage) -> torch.nn.Module:
    """The pruned network with its weights, in evaluation mode."""
    return surgery.reload(recovered.folder, job.recipe.model).eval()


def reloaded(job: Job, folder: Path) -> torch.nn.Module:
    """The pruned network that a folder holds, in evaluation mode."""
    return surgery.reload(folder, job.recipe.model).eval()


def outputs(job: Job, model: torch.nn.Module, split: str) -> dict[str, NDArray[np.float32]]:
    """What a network answers to a split, by name."""
    return evaluate_parts(model, job.splits.batches(split), job.splits.preprocess)


def check_suited(job: Job, trained: Stage) -> float | None:
    """How far the calibration samples are from those that the network was trained on: `models.mismatch`.

    None where that cannot be told. A network that was hardly trained has statistics that fit nothing, so what was
    trained here is held against its training samples. Raises DataError where they are too far.
    """
    if job.untrained:
        return None
    model = dense(job, trained)
    found = _mismatch(job, model, "calibrate")
    if found is None or found <= MOST_MISMATCH:
        return found
    if _is_trained_here(job) and found <= 2 * (_mismatch(job, model, "train") or 0):
        return found
    raise DataError(
        f"{job.splits.info.name}: the calibration samples are not like those that {job.recipe.model} was trained on:"
        f" what its batch normalizations see is {found:.2f} away from then, {MOST_MISMATCH} is the most: check the"
        " normalization (mean, std, levels), or calibrate on real samples"
    )


def parameters(job: Job) -> int:
    """Weights of the dense network."""
    return sum(parameter.numel() for parameter in drawn(job).parameters())


def epoch_seconds(job: Job) -> float:
    """How long an epoch of the dense network takes, from a few steps."""
    part, splits = job.recipe.train, job.splits
    some = splits.first("train", TIMED_STEPS * part.batch)
    *_, last = _epochs(job, drawn(job), some, epochs=2)  # the first makes room
    return last.seconds * len(splits.digests["train"]) / len(some)


def training_seconds(stage: Stage) -> float:
    """What the epochs of a stage took together; 0 where nothing was trained."""
    told = stage.folder / EPOCHS
    epochs = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()] if told.exists() else []
    return sum({one["index"]: float(one["seconds"]) for one in epochs}.values())


def gives_probability(job: Job, model: torch.nn.Module) -> bool:
    """Whether its answer is a single number that went through a sigmoid, so that 0.5 decides and not 0."""
    tensors = {name: torch.from_numpy(array) for name, array in job.tensors("calibrate", 2).items()}
    taken = {spec.name: name for spec, name in matched(inputs_of(model, job.specs), tensors, job.splits.info.name)}
    answers = run(model, {given: tensors[name] for given, name in taken.items()})
    return any(one.numel() == 2 and is_probability(one) for one in answers.values())


def factory(job: Job) -> dict[str, Any]:
    """What the weights are drawn by: the model, its source, and what it is given."""
    return {"model": job.recipe.model, "source": source_hash(job.recipe.model), **job.arguments}


def drawn(job: Job) -> torch.nn.Module:
    """The dense network with random weights that the seed alone decides, or those it comes with."""
    torch.manual_seed(job.recipe.seed)
    return build(job.recipe.model, job.arguments)


def example(job: Job, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """One sample of what the network takes: of images zeros, of anything else, which may hold numbers, a real one."""
    inputs = inputs_of(model, job.specs)
    if isinstance(job.splits.preprocess, Pixels):
        return {spec.name: torch.zeros(spec.fixed()) for spec in inputs}
    given = feeds(inputs, job.tensors("calibrate", 1), job.splits.info.name)
    return {name: torch.from_numpy(array) for name, array in given.items()}


def _is_trained_here(job: Job) -> bool:
    return job.recipe.weights is None and not job.untrained and not is_pretrained(job.recipe.model)


def _mismatch(job: Job, model: torch.nn.Module, split: str) -> float | None:
    count, size = COMPARED
    inputs = inputs_of(model, job.specs)
    given = (
        feeds(inputs, job.splits.preprocess(part.columns), job.splits.info.name)
        for part in islice(job.splits.batches(split, size), count)
    )
    return mismatch(model, ({name: torch.from_numpy(array) for name, array in one.items()} for one in given))


def _begun(job: Job, seed: int) -> torch.nn.Module:
    """The network as its training begins: with weights that a seed decides, or those that are given."""
    torch.manual_seed(seed)
    model = build(job.recipe.model, job.arguments)
    if job.recipe.weights is not None:
        load_weights(model, job.recipe.weights)
    return model


def _observe(job: Job, model: torch.nn.Module, pruner: StructuredPruner) -> None:
    """Show it the gradients of some training samples."""
    part, splits = job.recipe.train, job.splits
    batches = gradients(
        model,
        splits.samples("train"),
        splits.preprocess,
        part,
        task=splits.info.task,
        seed=job.recipe.seed,
        batches=job.recipe.prune.batches,
    )
    for _ in batches:
        pruner.observe()


def _is_pruned_in_training(job: Job) -> bool:
    gradual = job.recipe.prune.pruner != "none" and job.recipe.prune.schedule != "one-shot" and not job.untrained
    return gradual or pruners.prunes_while_training(job)


def _recovery(job: Job) -> TrainPart:
    """How a pruned network is trained on."""
    part = job.recipe.train
    augment = part.augment if part.recover_augment is None else part.recover_augment
    return part.model_copy(
        update={"epochs": pruners.epochs_of(job), "lr": part.recover_lr or part.lr, "augment": augment}
    )


def _of_dense(part: TrainPart) -> dict[str, Any]:
    """What of the settings decides about the dense network."""
    return part.model_dump(mode="json", exclude=set(RECOVERY))


def _asked(job: Job) -> dict[str, Any]:
    """What of the recipe says how it is pruned; of a given policy the name, and not where it lies."""
    part = job.recipe.prune
    asked = part.model_dump(mode="json", exclude=set(WHILE_TRAINING) - {part.pruner})
    if part.pruner == "rl" and part.rl.policy is not None:
        asked["rl"]["policy"] = part.rl.policy.name
    return asked


def _write_pruning(job: Job, folder: Path, report: dict[str, Any]) -> None:
    (folder / PRUNING).write_text(json.dumps(_asked(job) | report, indent=1) + "\n")


def _loaded(job: Job, trained: Stage) -> torch.nn.Module:
    model = drawn(job)
    load_weights(model, trained.folder / DENSE)
    return model


def _write_dense(model: torch.nn.Module, folder: Path) -> None:
    (folder / DENSE).write_bytes(serialize(_untied(model)))


def _untied(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All weights by name, each with memory of its own: safetensors refuses tensors that share it."""
    return {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}


def _fit(
    job: Job,
    model: torch.nn.Module,
    epochs: int,
    folder: Path,
    part: TrainPart | None = None,
    *,
    teacher: torch.nn.Module | None = None,
    pruner: MakeSteps | None = None,
    keep: Callable[[Path], None] | None,
) -> None:
    """Train; what `keep` writes of a training that diverged is the network as it was before, in a folder of its own."""
    checkpoint, samples, good = folder / "checkpoint", job.splits.samples("train"), folder / LAST_GOOD
    shutil.rmtree(good, ignore_errors=True)
    with (folder / EPOCHS).open("a", encoding="utf-8") as told:
        try:
            for epoch in _epochs(
                job, model, samples, epochs=epochs, checkpoint=checkpoint, part=part, teacher=teacher, pruner=pruner
            ):
                print(json.dumps(asdict(epoch)), file=told, flush=True)
        except DivergedError as error:
            if keep is None:
                raise
            good.mkdir()
            keep(good)
            raise DivergedError(f"{error}; that network is kept in {good}") from error
    checkpoint.unlink(missing_ok=True)
    model.cpu()


def _epochs(
    job: Job,
    model: torch.nn.Module,
    samples: Samples,
    *,
    epochs: int,
    checkpoint: Path | None = None,
    part: TrainPart | None = None,
    teacher: torch.nn.Module | None = None,
    pruner: MakeSteps | None = None,
) -> Iterator[Epoch]:
    return fit(
        model,
        samples,
        job.splits.preprocess,
        part or job.recipe.train,
        task=job.splits.info.task,
        epochs=epochs,
        seed=job.recipe.seed,
        teacher=teacher,
        pruner=pruner,
        checkpoint=checkpoint,
        progress=job.progress if checkpoint else SILENT,
    )
