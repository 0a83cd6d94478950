"""Pruners, made as a recipe says: before a network is trained on, or for a training that they prune it in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeprune.errors import ConfigError, EdgePruneError, OutOfReachError
from edgeprune.pipeline.job import Job
from edgeprune.progress import Silent
from edgeprune.prune.agent.agent_pruner import AgentPruner
from edgeprune.prune.agent.policy import Policy
from edgeprune.prune.agent.policy import load as load_policy
from edgeprune.prune.agent.walk import Walk
from edgeprune.prune.cost import Price
from edgeprune.prune.dynamic.dynamic_pruner import DynamicPruner
from edgeprune.prune.dynamic.updates import Updates
from edgeprune.prune.loss_contribution import LossPruner
from edgeprune.prune.pruner import Pruner
from edgeprune.prune.schedule import ONE_SHOT, Schedule
from edgeprune.prune.structure import Structure
from edgeprune.prune.structured import StructuredPruner
from edgeprune.recipe import WHILE_TRAINING

Example = Mapping[str, Tensor]
Prices = Callable[[], Sequence[Price]]
Made = TypeVar("Made", bound=Pruner)


def prunes_while_training(job: Job) -> bool:
    """Whether the recipe's pruner works from the first weights of a training on."""
    return job.recipe.prune.pruner in WHILE_TRAINING and not job.untrained


def epochs_of(job: Job) -> int:
    """Of the training in which a network is pruned, or recovers from it."""
    return job.recipe.train.after_pruning


def structured(
    job: Job,
    model: nn.Module,
    example: Example,
    optimizer: Optimizer | None = None,
    schedule: Schedule = ONE_SHOT,
    prices: Prices | None = None,
) -> StructuredPruner:
    """One of the baselines."""
    part = job.recipe.prune
    told = prices() if prices is not None else None
    per_cost = (part.per_cost or part.cost == "latency") and part.pruner != "uniform"
    keep, cost = _budget(job)

    def make(structure: Structure, align: int) -> StructuredPruner:
        return StructuredPruner(
            *(model, structure, part.pruner),
            optimizer=optimizer,
            keep=keep,
            cost=cost,
            prices=told,
            per_cost=per_cost,
            remove=part.remove,
            fractions=part.fractions,
            align=align,
            schedule=schedule,
        )

    return _aligned(job, Structure(model, example), make)


def in_training(
    job: Job,
    model: nn.Module,
    example: Example,
    optimizer: Optimizer,
    steps: int,
    prices: Prices | None = None,
    policy: Policy | None = None,
) -> Pruner:
    """The recipe's, for a training of so many steps. Raises ConfigError where what it asks for cannot be."""
    part = job.recipe.prune
    if part.pruner == "rl":
        assert policy is not None
        return AgentPruner(
            _walk_of_run(job, model, example, optimizer, steps, prices), policy, samples=_samples(job, steps)
        )
    if part.pruner == "dynamic":
        return _dynamic(job, model, example, optimizer, steps)
    if part.pruner == "loss":
        return _loss(job, model, example, optimizer, steps, prices)
    within = part.epochs * steps / epochs_of(job)
    removals = max(min(part.removals, int(within)), 1)
    every = max(round(within / removals), 1)
    gradual = Schedule(part.schedule, start=0, steps=min(every * removals, steps), every=every)
    return structured(job, model, example, optimizer, gradual, prices)


def check(job: Job, model: nn.Module, example: Example) -> None:
    """Refuse, before anything is trained, what cannot be; `model` is one to throw away.

    What stays whole is told here only where it is why, else when the network is pruned.
    """
    held = _Held()
    try:
        pruner = _to_check(replace(job, progress=held), model, example)
    except EdgePruneError:
        for line in held.said:
            job.progress.say(line)
        raise
    if pruner is not None and pruner.report.connections:
        part = job.recipe.prune
        sparse = part.pruner == "dynamic" and part.dynamic.pattern == "2:4" and "tensorrt" in job.runtimes
        job.progress.say(
            "prune: TensorRT is asked for sparse kernels, and takes them where it finds them faster"
            if sparse
            else "prune: single weights that are zero make none of the target's runtimes faster: files compress better"
        )


class _Held(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def _to_check(job: Job, model: nn.Module, example: Example) -> Pruner | None:
    """The recipe's pruner, as far as it can be known before the training; None of an agent, which is not learned."""
    part = job.recipe.prune
    if part.pruner == "rl" and job.recipe.train.compile:
        raise ConfigError(
            "train.compile: an agent sees activations through hooks, which compiled code skips: compile: false"
        )
    if part.cost == "latency":  # which is known of a trained and exported network
        keep = part.keep if part.pruner == "rl" else 1.0
        part = part.model_copy(update={"cost": "macs", "keep": keep})
        job = replace(job, recipe=job.recipe.model_copy(update={"prune": part}))
    if part.pruner not in WHILE_TRAINING:
        return structured(job, model, example)
    steps = epochs_of(job) * math.ceil(len(job.splits.digests["train"]) / job.recipe.train.batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    if part.pruner == "rl":
        walk = _walk_of_run(job, model, example, optimizer, steps, None)
        if part.rl.policy is not None:
            load_policy(part.rl.policy).check(walk.architecture, str(part.rl.policy))
        return None
    return in_training(job, model, example, optimizer, steps)


def _dynamic(job: Job, model: nn.Module, example: Example, optimizer: Optimizer, steps: int) -> DynamicPruner:
    part, how = job.recipe.prune, job.recipe.prune.dynamic
    fine = how.schedule == "fine"
    every = how.every_steps if fine else round(how.every_epochs * steps / epochs_of(job))
    return DynamicPruner(
        *(model, example, optimizer),
        updates=Updates(how.schedule, steps, every, how.drop or (0.3 if fine else 0.2), how.regrow, how.until),
        sparsity=None if how.pattern else part.sparsity or 1 - part.keep,
        pattern=how.pattern,
        distribution=how.distribution,
        drop_by=how.drop_by,
        begin="magnitude" if job.recipe.has_weights else "random",
        samples=_samples(job, steps),
        seed=job.recipe.seed,
    )


def _loss(
    job: Job, model: nn.Module, example: Example, optimizer: Optimizer, steps: int, prices: Prices | None
) -> LossPruner:
    part, how = job.recipe.prune, job.recipe.prune.loss
    every = max(round(how.every_epochs * steps / epochs_of(job)), 1)
    removals = int(how.until * steps) // every
    if not removals:
        raise ConfigError(
            f"prune.loss: a removal every {how.every_epochs:g} epochs does not fit into {how.until:g} of the"
            f" {epochs_of(job)} epochs of the training: train longer, or remove more often"
        )
    told = prices() if prices is not None else None
    schedule = Schedule("linear" if part.schedule == "linear" else "cubic", 0, every * removals, every)
    keep, cost = _budget(job)

    def make(structure: Structure, align: int) -> LossPruner:
        return LossPruner(
            *(model, structure, optimizer),
            schedule=schedule,
            threshold=how.threshold,
            keep=keep,
            connections=how.connections,
            samples=_samples(job, steps),
            cost=cost,
            prices=told,
            per_cost=part.per_cost or part.cost == "latency",
            fractions=part.fractions,
            align=align,
        )

    return _aligned(job, Structure(model, example), make)


def walk(
    job: Job,
    model: nn.Module,
    example: Example,
    optimizer: Optimizer,
    every: int,
    decisions: int,
    prices: Prices | None,
) -> Walk:
    """What an agent acts in: a decision after every so many steps."""
    part = job.recipe.prune
    keep, cost = _budget(job)
    return Walk(
        *(model, example, optimizer),
        every=every,
        decisions=decisions,
        k=part.rl.k,
        keep=keep,
        cost=cost,
        prices=prices() if prices is not None else None,
        align=part.align or job.target.channel_alignment,
    )


def _walk_of_run(
    job: Job, model: nn.Module, example: Example, optimizer: Optimizer, steps: int, prices: Prices | None
) -> Walk:
    epochs, how = epochs_of(job), job.recipe.prune.rl
    every = max(round(how.every_epochs * steps / epochs), 1)
    decisions = (steps - 1) // every
    if not decisions:
        raise ConfigError(
            f"prune.rl: a decision every {how.every_epochs:g} epochs does not fit into the {epochs} of the training:"
            " train longer, or decide more often"
        )
    return walk(job, model, example, optimizer, every, decisions, prices)


def _aligned(job: Job, structure: Structure, make: Callable[[Structure, int], Made]) -> Made:
    """In the widest alignment up to the target's that allows what is asked for."""
    part = job.recipe.prune
    wide = part.align or job.target.channel_alignment
    if part.remove == "channels":
        for line in structure.unfollowed:
            job.progress.say(f"prune: {line}: it is left whole")
        for line in structure.whole:
            job.progress.say(f"prune: left whole: {line}")
    for block in structure.blocks if part.remove == "blocks" else ():
        if block.whole:
            job.progress.say(f"prune: left whole: {block.name}: {block.whole}")
    for align in [wide >> shift for shift in range(wide.bit_length())]:
        try:
            return make(structure, align)
        except OutOfReachError as error:
            if align == 1 or part.remove == "blocks":
                raise
            job.progress.say(f"prune: {error}: trying {align // 2}")
    raise AssertionError("an alignment is at least 1")


def _budget(job: Job) -> tuple[float, str]:
    """The fraction that stays, and of what."""
    part = job.recipe.prune
    return (part.keep, part.cost) if part.sparsity is None else (1 - part.sparsity, "weights")


def _samples(job: Job, steps: int) -> float:
    """Of one step, on average."""
    return len(job.splits.digests["train"]) * epochs_of(job) / steps
