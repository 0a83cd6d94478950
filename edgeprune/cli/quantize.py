"""`edgeprune quantize`: an ONNX file in integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeprune.cli.job_options import job_options
from edgeprune.cli.made import shown
from edgeprune.cli.output import Output, output_options

FLOATS = ("fp32", "fp16", "bf16")


@click.command()
@click.argument("model", metavar="FILE.onnx")
@click.option("--backend", default="ort", show_default=True, metavar="NAME", help="Whose spelling of Q/DQ.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE.onnx", help="The quantized graph.")
@job_options(
    "target", "data", "recipe", "calibration", "preprocess", "vocabulary", "length", "inputs", "task", "metric"
)
@job_options("precision", "plan", "observer")
@click.option("--max-drop", type=float, metavar="POINTS", help="That may be lost; `mixed` goes by it.  [mixed: 1.0]")
@click.option("--max-size-mb", type=float, metavar="X", help="Of the file; `mixed` goes by it.")
@job_options("force")
@output_options
def quantize(
    backend: str, out: Path, target: str, recipe: str | None, force: bool, output: Output, **options: Any
) -> None:
    """Turn an ONNX file into integers for one runtime.

    Ranges come from the calibration samples of the data, and with --precision mixed the bits of every layer from those
    that select. Those judge the finished file too, where --max-drop is given or --precision mixed searches: exit code 3
    says that it loses more.
    """
    from edgeprune.api import job_with

    with output.progress() as progress:
        job = job_with(options, target=target, recipe=recipe, force=force, progress=progress)
        from edgeprune.pipeline import single

        made = single.quantize(job, backend, out)
    layers = made.facts["layers"]
    floats = [layer for layer in layers if layer["precision"] in FLOATS]
    four = sum(layer["weight_bits"] < 8 for layer in layers)
    told = [f"{layer['name']} stays {layer['precision']}: {layer['reason']}" for layer in floats]
    counted = f"{len(layers) - len(floats)} of {len(layers)} layers in integers, {four} with weights in 4 bits"
    if "lost" in made.facts:
        lost = made.facts["lost"]
        told.append(f"loses {lost['points']:.2f} points on the select split ({lost['source']})")
    output.show(shown(made), counted, *told, f"graph: {out}")
