"""`edgeprune lower`: what travels to a device."""

from __future__ import annotations

from pathlib import Path

import click

from edgeprune.cli.job_options import job_options
from edgeprune.cli.made import shown
from edgeprune.cli.output import Output, output_options


@click.command()
@click.argument("model", metavar="FILE.onnx", type=click.Path(path_type=Path))
@job_options("target")
@click.option("--backend", default="ort", show_default=True, metavar="NAME", help="Runtime.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The files.")
@job_options("precision")
@click.option("--ir", is_flag=True, help="For OpenVINO: its own format, which opens faster than ONNX.")
@output_options
def lower(model: Path, target: str, backend: str, out: Path, precision: str | None, ir: bool, output: Output) -> None:
    """Turn an ONNX file into what travels to a device.

    It is checked against the rules of the runtime that opens it there, or builds from it. For int8, int4 and mixed
    give a file in the runtime's own spelling, as `edgeprune quantize` writes it.
    """
    from edgeprune.pipeline import single
    from edgeprune.targets.load import load_target

    made = single.lower(model, load_target(target), backend, precision or "fp32", out, ir=ir)
    unproven = [f"unproven: {made.facts['unproven']}"] if made.facts["unproven"] else []
    output.show(shown(made), *(f"{path}" for path in made.files), *unproven)
