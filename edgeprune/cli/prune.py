"""`edgeprune prune`: a smaller network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeprune.cli.job_options import job_options
from edgeprune.cli.made import kept, scored, shown
from edgeprune.cli.output import Output, output_options


@click.command()
@click.argument("model", required=False)
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The pruned network.")
@job_options("target", "data", "weights", "recipe", "preprocess", "task", "metric", "pruner", "keep")
@job_options("sparsity", "remove", "schedule", "distill", "latency_table")
@job_options("epochs", "seed", "device", "force")
@output_options
def prune(out: Path, target: str, recipe: str | None, force: bool, output: Output, **options: Any) -> None:
    """Make a trained network smaller.

    Channels are removed to the alignment of the target, and the rest is trained on. Without --weights it is trained
    first. DIR gets pruned.safetensors, architecture.json (how it is built and cut: no pickle) and pruning.json
    (what was removed per layer, and what was left and why).
    """
    from edgeprune.api import job_with

    with output.progress() as progress:
        job = job_with(options, target=target, recipe=recipe, force=force, progress=progress)
        from edgeprune.pipeline import single

        made = single.prune(job, out)
    output.show(shown(made), kept(made.facts["pruning"]), *scored(made), f"pruned network: {out}")
