"""The stages that make weights: train, prune, recover."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialize

from edgeprune.bundle import sha256_of
from edgeprune.cache import Stage
from edgeprune.data.datasets import read
from edgeprune.errors import ConfigError, InputError
from edgeprune.models.zoo import build, load_weights, source_hash
from edgeprune.pipeline.job import Job
from edgeprune.prune import surgery
from edgeprune.prune.magnitude import MagnitudePruner
from edgeprune.train.fit import fit

DENSE = "dense.safetensors"
PRUNING = "pruning.json"


def train(job: Job) -> Stage:
    """Weights of the dense network: given, trained, or (speed only) as they were drawn."""
    recipe = job.recipe
    inputs: dict[str, Any] = {**_factory(job), "seed": recipe.seed}
    if recipe.weights is not None:
        if not recipe.weights.is_file():
            raise InputError(f"{recipe.weights}: no such weights file: check --weights or `weights:` in the recipe")
        inputs["weights"] = sha256_of(recipe.weights)
    elif not job.untrained:
        if recipe.train.epochs == 0:
            raise ConfigError("no epochs and no weights: give --weights FILE, --epochs N, or --speed-only")
        inputs |= {"rows": job.splits.fingerprint("train"), "train": recipe.train.model_dump(mode="json")}
        inputs["preprocess"] = job.splits.preprocess.to_json()

    def work(folder: Path) -> None:
        model = _drawn(job)
        if recipe.weights is not None:
            load_weights(model, recipe.weights)
        elif not job.untrained:
            _fit(job, model, recipe.train.epochs, folder)
        (folder / DENSE).write_bytes(serialize(_untied(model)))

    return job.stage("train", inputs, work, code=("models", "train", "data"), resumable=True)


def prune(job: Job, dense: Stage) -> Stage:
    """The network without what its pruner removed, and what that was; whole where nothing is to be pruned."""
    recipe = job.recipe
    inputs = {**_factory(job), "dense": dense, "prune": recipe.prune.model_dump()}
    inputs["align"] = job.target.channel_alignment

    def work(folder: Path) -> None:
        model = _drawn(job)
        load_weights(model, dense.folder / DENSE)
        if recipe.prune.pruner == "none":
            log, report = surgery.SurgeryLog(), {}
        else:
            pruner = _cut(job, model)
            log, report = pruner.log, asdict(pruner.report)
        surgery.save(folder, model, log, recipe.model, _arguments(job))
        (folder / PRUNING).write_text(json.dumps(recipe.prune.model_dump() | report, indent=1) + "\n")

    return job.stage("prune", inputs, work, code=("models", "prune"))


def recover(job: Job, pruned: Stage) -> Stage:
    """The pruned network, trained on."""
    recipe = job.recipe
    epochs = recipe.train.epochs if recipe.train.recover_epochs is None else recipe.train.recover_epochs
    if recipe.prune.pruner == "none" or job.untrained or epochs == 0:
        return pruned
    inputs = {
        "pruned": pruned,
        "rows": job.splits.fingerprint("train"),
        "preprocess": job.splits.preprocess.to_json(),
        "train": recipe.train.model_dump(mode="json"),
        "seed": recipe.seed,
    }

    def work(folder: Path) -> None:
        model, log = surgery.reload(pruned.folder, recipe.model), surgery.read_log(pruned.folder)
        _fit(job, model, epochs, folder)
        surgery.save(folder, model, log, recipe.model, _arguments(job))
        (folder / PRUNING).write_bytes((pruned.folder / PRUNING).read_bytes())

    return job.stage("recover", inputs, work, code=("models", "train", "prune", "data"), resumable=True)


def dense(job: Job, trained: Stage) -> torch.nn.Module:
    """The dense network with its weights, in evaluation mode."""
    model = _drawn(job)
    load_weights(model, trained.folder / DENSE)
    return model.eval()


def pruned(job: Job, recovered: Stage) -> torch.nn.Module:
    """The pruned network with its weights, in evaluation mode."""
    return surgery.reload(recovered.folder, job.recipe.model).eval()


def _cut(job: Job, model: torch.nn.Module) -> MagnitudePruner:
    """Prune to the fraction asked for, in the widest alignment up to the target's that allows it."""
    example, wide = torch.zeros(1, *job.input_shape), job.target.channel_alignment
    for align in [wide >> shift for shift in range(wide.bit_length())]:
        pruner = MagnitudePruner(model, example, keep=job.recipe.prune.keep, align=align)
        try:
            pruner.step()
        except ConfigError as error:
            if align == 1:
                raise
            job.progress.say(f"prune: {error}: trying {align // 2}")
        else:
            break
    return pruner


def _factory(job: Job) -> dict[str, Any]:
    return {"model": job.recipe.model, "source": source_hash(job.recipe.model), **_arguments(job)}


def _arguments(job: Job) -> dict[str, Any]:
    return {"input_shape": list(job.input_shape), "classes": len(job.splits.info.classes)}


def _drawn(job: Job) -> torch.nn.Module:
    """The dense network with random weights that the seed alone decides."""
    torch.manual_seed(job.recipe.seed)
    return build(job.recipe.model, input_shape=job.input_shape, classes=len(job.splits.info.classes))


def _untied(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All weights by name, each with memory of its own: safetensors refuses tensors that share it."""
    return {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}


def _fit(job: Job, model: torch.nn.Module, epochs: int, folder: Path) -> None:

    checkpoint = folder / "checkpoint"
    part, splits = job.recipe.train, job.splits
    for _ in fit(
        model,
        read(splits.rows["train"]),
        splits.preprocess,
        part,
        epochs=epochs,
        seed=job.recipe.seed,
        checkpoint=checkpoint,
        progress=job.progress,
    ):
        pass
    checkpoint.unlink(missing_ok=True)
    model.cpu()
