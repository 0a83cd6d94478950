"""What a training takes in which a network is pruned, beside that of the dense one: an epoch of each by turns.

    python benchmarks/training_time.py cnn-cifar10-least --epochs 8

RECIPE is one with `prune.pruner: loss` or `dynamic`. Each seed is a training of its own; the processor's time is
counted, not the wall's, with the pruner's own. A line of JSON for each seed, then the mean with Student's interval.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from statistics import mean
from time import process_time

import click
import torch
from pruning_methods import interval_of_mean

from edgeprune.api import recipe_with, stage_cache
from edgeprune.cli.program import Program
from edgeprune.pipeline import network, pruners
from edgeprune.pipeline.compile import prepare
from edgeprune.pipeline.job import Job
from edgeprune.prune.pruner import Pruner
from edgeprune.targets.load import load_target
from edgeprune.train.fit import Epoch, fit

WITHOUT_POLICY = ("loss", "dynamic")
"""Pruners that a recipe says all of."""


def training(job: Job, made: list[Pruner] | None) -> Iterator[Epoch]:
    """Of the network as it is drawn; the pruner is put into `made`, without which there is none."""
    part, model = job.recipe.train, network.drawn(job)

    def begin(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> Pruner:
        assert made is not None
        made.append(pruners.in_training(job, model, network.example(job, model), optimizer, steps))
        return made[0]

    return fit(
        model,
        job.splits.samples("train"),
        job.splits.preprocess,
        part,
        task=job.splits.info.task,
        epochs=part.after_pruning,
        seed=job.recipe.seed,
        pruner=None if made is None else begin,
    )


def by_turns(job: Job) -> dict[str, object]:
    """Of both trainings of one seed, whole."""
    made: list[Pruner] = []
    both = {"dense": training(job, None), "pruned": training(job, made)}
    took = {name: list[float]() for name in both}
    for epoch in range(job.recipe.train.after_pruning):
        for name in sorted(both, reverse=epoch % 2 == 1):  # neither is always the first
            start = process_time()
            next(both[name])
            took[name].append(process_time() - start)
    report = made[0].report
    return {
        "seed": job.recipe.seed,
        "kept": report.kept,
        "flops": report.training_flops / report.training_flops_dense,
        "time": sum(took["pruned"]) / sum(took["dense"]),
        "seconds": took,
    }


@click.command(cls=Program)
@click.argument("recipe")
@click.option("--epochs", default=8, show_default=True)
@click.option("--seeds", default="0,1,2", show_default=True)
def main(recipe: str, epochs: int, seeds: str) -> None:
    """Train RECIPE with and without its pruner."""
    base = recipe_with({}, recipe)
    if base.prune.pruner not in WITHOUT_POLICY:
        raise click.UsageError(f"{recipe}: prunes by {base.prune.pruner}, not by {' or '.join(WITHOUT_POLICY)}")
    train = base.train.model_copy(update={"epochs": epochs, "recover_epochs": epochs, "distill": 0.0})
    shares = []
    for seed in seeds.split(","):
        asked = base.model_copy(update={"train": train, "seed": int(seed)})
        found = by_turns(prepare(asked, load_target("cpu"), None, stage_cache()))
        click.echo(json.dumps(found))
        shares.append(found["time"])
    told = f"{mean(shares):.3f}"
    if len(shares) > 1:
        told += " [{:.3f}, {:.3f}]".format(*interval_of_mean(shares))
    click.echo(f"of the time of the dense training: {told}")


if __name__ == "__main__":
    main()
