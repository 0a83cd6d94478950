"""`edgeprune quantize`: an ONNX file in INT8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeprune.cli.job_options import job_options
from edgeprune.cli.made import shown
from edgeprune.cli.output import Output, output_options


@click.command()
@click.argument("model", metavar="FILE.onnx")
@click.option("--backend", default="ort", show_default=True, metavar="NAME", help="Whose spelling of Q/DQ.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE.onnx", help="The quantized graph.")
@job_options(
    "target", "data", "recipe", "calibration", "preprocess", "vocabulary", "length", "inputs", "task", "metric"
)
@job_options("observer", "force")
@output_options
def quantize(
    backend: str, out: Path, target: str, recipe: str | None, force: bool, output: Output, **options: Any
) -> None:
    """Turn an ONNX file into INT8 for one runtime.

    Ranges come from the calibration samples of the data.
    """
    from edgeprune.api import job_with

    with output.progress() as progress:
        job = job_with(options, target=target, recipe=recipe, force=force, progress=progress)
        from edgeprune.pipeline import single

        made = single.quantize(job, backend, out)
    layers = made.facts["layers"]
    floats = [layer for layer in layers if layer["precision"] != "int8"]
    told = [f"{layer['name']} stays {layer['precision']}: {layer['reason']}" for layer in floats]
    output.show(shown(made), f"{len(layers) - len(floats)} of {len(layers)} layers in int8", *told, f"graph: {out}")
