"""`edgeprune train`: weights for a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeprune.cli.job_options import job_options
from edgeprune.cli.made import scored, shown
from edgeprune.cli.output import Output, output_options


@click.command()
@click.argument("model", required=False)
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE.safetensors", help="The weights.")
@job_options(
    "data", "recipe", "preprocess", "vocabulary", "length", "task", "metric", "epochs", "seed", "device", "force"
)
@output_options
def train(out: Path, recipe: str | None, force: bool, output: Output, **options: Any) -> None:
    """Train a model's weights.

    MODEL is a name of the zoo or file.py:factory.
    """
    from edgeprune.api import job_with

    with output.progress() as progress:
        job = job_with({**options, "pruner": "none"}, recipe=recipe, force=force, progress=progress)
        from edgeprune.pipeline import single

        made = single.train(job, out)
    output.show(shown(made), *scored(made), f"weights: {out}")
