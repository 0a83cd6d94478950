"""`edgeprune compile`: one model for one target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeprune.cli.output import OneOf, Output, output_options

# As in edgeprune.recipe, which is not imported before a command runs; a test holds the two together.
PRUNERS = ("none", "magnitude")
PRECISIONS = ("fp32", "bf16", "int8")


@click.command("compile")
@click.argument("model", required=False)
@click.option("--target", default="cpu", show_default=True, metavar="NAME", help="Device type, or a target file.")
@click.option("--backend", "backends", multiple=True, metavar="NAME", help="Runtime; repeat for more.  [all]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the bundle.  [build/<model>-<target>]")
@click.option("--data", metavar="NAME|DIR", help="Data set or image folder.  [digits]")
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE", help="Trained weights, as safetensors.")
@click.option("--recipe", metavar="NAME|FILE", help="The whole job as YAML; other options override it.")
@click.option("--calibration", metavar="NAME|FILE", help="Calibration set.")
@click.option("--pruner", type=OneOf("pruner", PRUNERS), help="What decides what is removed.  [magnitude]")
@click.option("--keep", type=float, metavar="FRACTION", help="Of the multiply-accumulates.  [0.5]")
@click.option("--precision", type=OneOf("precision", PRECISIONS), help="The lowest that is made.  [int8]")
@click.option("--max-drop", type=float, metavar="POINTS", help="Of accuracy that may be lost.  [1.0]")
@click.option("--max-latency-ms", type=float, metavar="X", help="p50 at batch 1.")
@click.option("--max-size-mb", type=float, metavar="X", help="On disk.")
@click.option("--epochs", type=int, metavar="N", help="Of training, and again after pruning.  [30]")
@click.option("--seed", type=int, metavar="N", help="Of all that is random.  [0]")
@click.option("--device", metavar="NAME", help="Where training runs: cpu, cuda.  [cpu]")
@click.option("--allow-fallback", is_flag=True, help="Accept layers that run in another precision than intended.")
@click.option("--speed-only", is_flag=True, help="Leave the weights untrained; nothing is said of accuracy.")
@click.option("--force", is_flag=True, help="Do finished stages again.")
@output_options
def compile_(
    target: str,
    backends: tuple[str, ...],
    out: Path | None,
    recipe: str | None,
    allow_fallback: bool,
    speed_only: bool,
    force: bool,
    output: Output,
    **options: Any,
) -> None:
    """Train, prune, quantize, lower and measure a model.

    MODEL is a name of the zoo (cnn, lenet5, resnet20, ...), file.py:factory, or a file.onnx. Without any argument: the
    cnn on scikit-learn's digits, for this machine.
    """
    from edgeprune.registry import require

    require("jinja2", "matplotlib", extra="compile")
    from edgeprune.api import compile_measured
    from edgeprune.bundle import REPORT
    from edgeprune.report.document import document
    from edgeprune.report.tables import page

    with output.progress() as progress:
        bundle, measured, error = compile_measured(
            options,
            target=target,
            recipe=recipe,
            out=out,
            backends=backends,
            allow_fallback=allow_fallback,
            speed_only=speed_only,
            force=force,
            progress=progress,
        )
    report = bundle.root / REPORT
    found = {"bundle": str(bundle.root), "sha256": bundle.sha256, "report": str(report)} | document(measured)
    output.show(found, page(measured, bundle.core), f"bundle: {bundle.root}\nreport: {report}")
    if error:
        raise error
