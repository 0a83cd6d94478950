"""What an agent learned, beside policies that are random or always the same, and one whose observations are shuffled.

    python benchmarks/agent.py cnn-cifar10-agent --out build/agent

RECIPE is one with `prune.pruner: rl`. The curves go to `--out`/curves.json and curves.png, and what each is worth in
the end is printed; give every seed a folder of its own. Killed, the command goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import mean, stdev

import click
import matplotlib as mpl
import numpy as np
from matplotlib import color_sequences
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edgeprune.api import job_with
from edgeprune.cli.program import Program
from edgeprune.pipeline import artifact, network, priced
from edgeprune.pipeline.agent import LEARNING
from edgeprune.pipeline.job import Job
from edgeprune.pipeline.pruners import Prices
from edgeprune.prune.agent.learn import Curve, learn, play
from edgeprune.prune.agent.policy import LearnedPolicy, Policy, RandomPolicy, load
from edgeprune.prune.agent.walk import Action
from edgeprune.report.plots.style import STYLE

MEAN_OF = 20
"""Episodes that a point of a drawn curve is the mean of."""


@dataclass(frozen=True)
class Always:
    """The same to every layer: an agent that learned something is better than each of these."""

    chosen: Action

    def action(self, observation: NDArray[np.float32], step: int, number: int) -> Action:
        """That one."""
        return self.chosen


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


def draw(curves: Mapping[str, Curve], file: Path) -> None:
    """How learning went, as means of the last episodes, and what each policy is worth behind it."""
    with mpl.rc_context(STYLE | {"figure.dpi": 150}):
        figure = Figure(figsize=(6.5, 3.4), layout="constrained")
        axes = figure.add_subplot()
        played = [name for name in curves if f"{name}, learning" in curves or not name.endswith(", learning")]
        for hue, name in zip(color_sequences["tab10"], played, strict=False):
            worth = mean(curves[name].returns)
            axes.axhline(worth, color=hue, linestyle="--", linewidth=0.8, label=f"{name}: {worth:.3f}")
            if learning := curves.get(f"{name}, learning"):
                count = min(MEAN_OF, len(learning.returns))
                means = np.convolve(learning.returns, np.full(count, 1 / count), mode="valid")
                axes.plot(np.arange(count, len(learning.returns) + 1), means, color=hue)
        axes.set_xlabel(f"episode (mean of {MEAN_OF}); dashed: played afterwards")
        axes.set_ylabel("return")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        figure.savefig(file)


@click.command(cls=Program)
@click.argument("recipe")
@click.option("--seed", type=int, default=None)
@click.option(
    "--tested", default=20, show_default=True, help="Episodes that policies are played in when all is learned."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR")
def main(recipe: str, seed: int | None, tested: int, out: Path) -> None:
    """Learn with and without observations, and play."""
    job = job_with({"seed": seed}, recipe=recipe)
    how, prices = job.recipe.prune.rl, prices_of(job)
    if (policy := network.learned(job, prices)) is None:
        raise click.UsageError(f"{recipe}: nothing is learned there: prune.pruner must be rl, without a policy")
    out.mkdir(parents=True, exist_ok=True)
    asked = sha256(job.recipe.model_dump_json().encode()).hexdigest()[:12]  # another recipe's is not gone on with
    shuffled = network.agent_environment(job, prices, shuffled=True)
    layers = load(policy.folder).architecture
    learned = learn(
        shuffled,
        episodes=how.episodes,
        transitions=len(layers) * (how.episode_epochs - 1),
        seed=job.recipe.seed,
        checkpoint=out / f"shuffled-{asked}.checkpoint",
        note=lambda episode, worth: click.echo(f"shuffled {episode}: {worth:.3f}", err=True),
    )
    curves = {
        "agent, learning": Curve(**json.loads((policy.folder / LEARNING).read_bytes())),
        "shuffled, learning": learned.curve,
    }
    for name, chosen in (("agent", load(policy.folder)), ("shuffled", LearnedPolicy(learned.weights, layers))):
        environment = network.agent_environment(job, prices, shuffled=name == "shuffled")
        environment.episode = how.episodes  # trainings that none was learned in
        curves[name] = play(environment, [chosen] * tested)
    seeds = range(job.recipe.seed * tested, (job.recipe.seed + 1) * tested)  # another in each episode
    untaught: dict[str, list[Policy]] = {"random": [RandomPolicy(one) for one in seeds]}
    untaught |= {f"always {action.name.lower()}": [Always(action)] * tested for action in Action}
    for name, policies in untaught.items():
        environment = network.agent_environment(job, prices)
        environment.episode = how.episodes
        curves[name] = play(environment, policies)
    (out / "curves.json").write_text(json.dumps({name: asdict(curve) for name, curve in curves.items()}) + "\n")
    draw(curves, out / "curves.png")
    for name, curve in curves.items():
        click.echo(f"{name}: return {last(curve, tested)}")


if __name__ == "__main__":
    main()
