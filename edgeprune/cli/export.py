"""`edgeprune export`: an ONNX file that computes what a module computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeprune.cli.job_options import job_options
from edgeprune.cli.made import shown
from edgeprune.cli.output import Output, output_options


@click.command()
@click.argument("model", required=False)
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE.onnx", help="The graph.")
@click.option("--pruned", type=click.Path(path_type=Path), metavar="DIR", help="What `edgeprune prune` made of it.")
@job_options("data", "weights", "recipe", "preprocess", "vocabulary", "length", "task", "metric")
@job_options("epochs", "seed", "device", "force")
@output_options
def export(out: Path, pruned: Path | None, recipe: str | None, force: bool, output: Output, **options: Any) -> None:
    """Turn a network into an ONNX file.

    Its batch is free, and both runtimes are checked to compute what the network computes. Without --weights or
    --pruned it is trained first.
    """
    from edgeprune.api import job_with

    with output.progress() as progress:
        job = job_with({**options, "pruner": "none"}, recipe=recipe, force=force, progress=progress)
        from edgeprune.pipeline import single

        made = single.export(job, out, pruned)
    facts = made.facts
    output.show(
        shown(made),
        f"{facts['macs']:,} multiply-accumulates; exported by {facts['exporter']};"
        f" differs from PyTorch by {facts['parity']:.2g} of the largest output at most",
        f"graph: {out}",
    )
