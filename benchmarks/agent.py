"""What an agent learned, beside random policies and an agent whose observations are shuffled.

    python benchmarks/agent.py cnn-cifar10-agent --out build/agent

RECIPE is one with `prune.pruner: rl`. The curves go to `--out`/curves.json, and what each is worth in the end is
printed; give every seed a folder of its own. Killed, the command goes on where it stopped.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import mean, stdev

import click

from edgeprune.api import job_with
from edgeprune.pipeline import artifact, network, priced
from edgeprune.pipeline.job import Job
from edgeprune.pipeline.pruners import Prices
from edgeprune.prune.agent.learn import Curve, learn, play
from edgeprune.prune.agent.policy import LearnedPolicy, RandomPolicy


def prices_of(job: Job) -> Prices | None:
    """What layers take by the recipe's latency table, where the agent is paid for that."""
    if job.recipe.prune.cost != "latency":
        return None
    trained = network.train(job)
    return partial(priced.prices, job, artifact.export(job, trained, partial(network.dense, job, trained)))


def last(curve: Curve, count: int) -> str:
    """Return and accuracy over the last episodes."""
    told = []
    for values in (curve.returns[-count:], curve.accuracies[-count:]):
        told.append(f"{mean(values):.3f} ± {stdev(values) if len(values) > 1 else 0:.3f}")
    return ", accuracy ".join(told)


@click.command()
@click.argument("recipe")
@click.option("--seed", type=int, default=None)
@click.option(
    "--tested", default=20, show_default=True, help="Episodes that policies are played in when all is learned."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR")
def main(recipe: str, seed: int | None, tested: int, out: Path) -> None:
    """Learn with and without observations, and play."""
    job = job_with({"seed": seed}, recipe=recipe)
    how = job.recipe.prune.rl
    out.mkdir(parents=True, exist_ok=True)
    curves, prices = {}, prices_of(job)
    asked = sha256(job.recipe.model_dump_json().encode()).hexdigest()[:12]  # another recipe's is not gone on with
    for name in ("agent", "shuffled"):
        environment = network.agent_environment(job, prices, shuffled=name == "shuffled")
        environment.reset(seed=0)
        layers = environment.walk.architecture
        environment.episode = 0
        learned = learn(
            environment,
            episodes=how.episodes,
            transitions=len(layers) * (how.episode_epochs - 1),
            seed=job.recipe.seed,
            checkpoint=out / f"{name}-{asked}.checkpoint",
            note=lambda episode, worth: click.echo(f"{name} {episode}: {worth:.3f}", err=True),  # noqa: B023
        )
        curves[f"{name}, learning"] = learned.curve
        environment.episode = how.episodes  # trainings that none was learned in
        curves[name] = play(environment, [LearnedPolicy(learned.weights, layers)] * tested)
    environment = network.agent_environment(job, prices)
    environment.episode = how.episodes
    seeds = range(job.recipe.seed * tested, (job.recipe.seed + 1) * tested)  # another in each episode
    curves["random"] = play(environment, map(RandomPolicy, seeds))
    (out / "curves.json").write_text(json.dumps({name: asdict(curve) for name, curve in curves.items()}) + "\n")
    for name, curve in curves.items():
        click.echo(f"{name}: return {last(curve, tested)}")


if __name__ == "__main__":
    main()
