"""A policy for the recipe's network: given, drawn at random, or learned over short trainings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeprune.cache import Stage
from edgeprune.data.samples import Samples
from edgeprune.errors import ConfigError
from edgeprune.file_hash import sha256_of
from edgeprune.judge import CLASSIFICATION
from edgeprune.models.calling import inputs_of, run
from edgeprune.pipeline import pruners
from edgeprune.pipeline.job import Job
from edgeprune.prune.agent import policy as policies
from edgeprune.prune.agent.reward import Judged, Reward
from edgeprune.prune.agent.walk import Walk
from edgeprune.train.batches import load_batches
from edgeprune.train.fit import RECOVERY, Epoch, fit
from edgeprune.train.loss import is_probability, loss_of

if TYPE_CHECKING:
    from edgeprune.prune.agent.environment import MakeWalk, PruningEnvironment

LEARNING = "learning.json"
FILES = (policies.WEIGHTS, policies.DESCRIPTION, LEARNING)
APPLIED = {"policy", "random", "every_epochs"}
"""Settings that say nothing of how a policy is learned."""
JUDGED_AT_ONCE = 256

Draw = Callable[[int], nn.Module]
"""The network as its training begins, by a seed."""


def learn(
    job: Job, first: dict[str, Any], draw: Draw, example: pruners.Example, prices: pruners.Prices | None
) -> Stage:
    """The stage that leaves `policy.safetensors`, `policy.json` and how learning went, `learning.json`.

    `first` says what decides about the weights that `draw` gives.
    """
    part, recipe = job.recipe.prune, job.recipe
    inputs: dict[str, Any] = {
        **first,
        "prune": part.model_dump(mode="json", exclude={"rl": APPLIED, "loss": True, "dynamic": True}),
        "align": job.target.channel_alignment,
        "rows": [job.splits.fingerprint(split) for split in ("train", "select")],
        "preprocess": job.splits.preprocess.to_json(),
        "train": recipe.train.model_dump(mode="json", exclude={"epochs", *RECOVERY}),
        "seed": recipe.seed,
        "learner": metadata.version("stable-baselines3"),
    }
    if prices is not None and recipe.latency_table is not None:
        inputs["table"] = sha256_of(recipe.latency_table)

    def work(folder: Path) -> None:
        from edgeprune.prune.agent.learn import learn as learn_policy  # needs an extra

        how, checkpoint = part.rl, folder / "checkpoint"
        walk = _example_walk(job, draw(recipe.seed), example, prices)
        environment = environment_of(job, draw, example, prices)
        with job.progress.task("learn", total=how.episodes) as shown:
            learned = learn_policy(
                environment,
                episodes=how.episodes,
                transitions=len(walk.layers) * (how.episode_epochs - 1),
                seed=recipe.seed,
                checkpoint=checkpoint,
                note=lambda episode, worth: shown.advance(note=f"episode {episode}, return {worth:.3f}"),
            )
        told = {"episodes": how.episodes, "seed": recipe.seed, "reward": how.reward.model_dump(), "k": how.k}
        policies.save(folder, policies.LearnedPolicy(learned.weights, walk.architecture, told))
        (folder / LEARNING).write_text(json.dumps(asdict(learned.curve), indent=1) + "\n")
        checkpoint.unlink(missing_ok=True)

    return job.stage("learn", inputs, work, code=("models", "train", "prune", "data"), resumable=True)


def environment_of(
    job: Job, draw: Draw, example: pruners.Example, prices: pruners.Prices | None, *, shuffled: bool = False
) -> PruningEnvironment:
    """Episodes are trainings on some of the samples, judged on some of those that select."""
    from edgeprune.prune.agent.environment import PruningEnvironment

    how, part = job.recipe.prune.rl, job.recipe.train
    samples = _some(job, "train", how.episode_samples)
    judge = _judge(job, _some(job, "select", how.episode_samples))

    def begin(episode: int, make: MakeWalk) -> tuple[nn.Module, Iterator[Epoch]]:
        seed = int(np.random.SeedSequence((job.recipe.seed, episode)).generate_state(1)[0])
        model = draw(seed)
        epochs = fit(
            *(model, samples, job.splits.preprocess, part),
            task=job.splits.info.task,
            epochs=how.episode_epochs,
            seed=seed,
            pruner=make,
        )
        return model, epochs

    def walk(model: nn.Module, optimizer: Optimizer, steps: int) -> Walk:
        every = steps // how.episode_epochs
        return pruners.walk(job, model, example, optimizer, every, how.episode_epochs - 1, prices)

    reward = Reward(**how.reward.model_dump())
    return PruningEnvironment(begin, walk, judge, reward, epochs=how.episode_epochs, shuffled=shuffled)


def policy_of(job: Job, learned: Stage | None) -> policies.Policy:
    """The one that the recipe says."""
    how = job.recipe.prune.rl
    if how.random:
        return policies.RandomPolicy(job.recipe.seed)
    folder = learned.folder if learned is not None else how.policy
    assert folder is not None
    return policies.load(folder)


def keep(job: Job, learned: Stage | None, folder: Path) -> None:
    """Put the policy that a network was pruned by beside it, and how it was learned."""
    source = learned.folder if learned is not None else job.recipe.prune.rl.policy
    if job.recipe.prune.pruner == "rl" and source is not None:
        for name in FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)


def _example_walk(job: Job, model: nn.Module, example: pruners.Example, prices: pruners.Prices | None) -> Walk:
    """To know the layers of."""
    return pruners.walk(job, model, example, torch.optim.SGD(model.parameters(), lr=1.0), 1, 1, prices)


def _some(job: Job, split: str, most: int) -> Samples:
    """Samples of a split, drawn at random."""
    every = job.splits.samples(split)
    generator = torch.Generator().manual_seed(job.recipe.seed)
    return every.part(torch.randperm(len(every), generator=generator)[:most].sort().values.tolist())


def _judge(job: Job, samples: Samples) -> Callable[[nn.Module], Judged]:
    """What says how a network does on samples, computed as in its training."""
    if job.splits.info.task != CLASSIFICATION:
        raise ConfigError(f"--pruner rl is paid for accuracy, and {job.splits.info.name} is {job.splits.info.task}")
    device, bf16 = torch.device("cpu"), job.recipe.train.precision == "bf16"
    loaded: list[Any] = []

    def judge(model: nn.Module) -> Judged:
        nonlocal device
        where = next(model.parameters()).device
        if not loaded or where != device:
            device = where
            inputs = inputs_of(model, job.splits.preprocess.specs)
            task = job.splits.info.task
            loaded[:] = [load_batches(samples, job.splits.preprocess, inputs, where, task=task, augmented=False)]
        (batches,) = loaded
        was_training, generator = model.training, torch.Generator()
        model.eval()
        right, lost = 0, 0.0
        with torch.no_grad(), torch.autocast(where.type, torch.bfloat16, enabled=bf16):
            for rows in torch.split(torch.arange(len(batches.targets), device=where), JUDGED_AT_ONCE):
                outputs, targets = run(model, batches.take(rows, generator)), batches.targets[rows]
                right += int((_answers(outputs, targets) == targets).sum())
                lost += float(loss_of(CLASSIFICATION, outputs, targets)) * len(rows)
        model.train(was_training)
        return Judged(right / len(batches.targets), lost / len(batches.targets))

    return judge


def _answers(outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
    """Classes [N]: of the highest score, or of a single one that is positive."""
    for one in outputs.values():
        if one.ndim == 2 and one.shape[1] > 1:
            return one.argmax(1)
    single = next(one for one in outputs.values() if one.numel() == len(targets))
    return (single.reshape(-1) > (0.5 if is_probability(single) else 0.0)).long()
