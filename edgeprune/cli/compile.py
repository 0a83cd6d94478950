"""`edgeprune compile`: one model for one target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeprune.cli.job_options import job_options
from edgeprune.cli.output import Output, output_options


@click.command("compile")
@click.argument("model", required=False)
@job_options("target")
@click.option("--backend", "backends", multiple=True, metavar="NAME", help="Runtime; repeat for more.  [all]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the bundle.  [build/<model>-<target>]")
@job_options("data", "weights", "recipe", "calibration", "preprocess", "vocabulary", "length", "inputs", "task")
@job_options("metric", "pruner", "keep", "sparsity", "remove", "schedule", "distill")
@job_options("precision", "plan", "observer")
@click.option("--max-drop", type=float, metavar="POINTS", help="Of accuracy that may be lost.  [1.0]")
@click.option("--max-latency-ms", type=float, metavar="X", help="p50 at batch 1.")
@job_options("latency_table")
@click.option("--max-size-mb", type=float, metavar="X", help="On disk.")
@job_options("epochs", "quantize_epochs", "seed", "device")
@click.option("--allow-fallback", is_flag=True, help="Accept layers that run in another precision than intended.")
@click.option("--speed-only", is_flag=True, help="Leave the weights untrained; nothing is said of accuracy.")
@job_options("force")
@click.option("--dry-run", is_flag=True, help="Only say what would be done, how long it takes and how large it gets.")
@output_options
def compile_(
    target: str,
    backends: tuple[str, ...],
    out: Path | None,
    recipe: str | None,
    allow_fallback: bool,
    speed_only: bool,
    force: bool,
    dry_run: bool,
    output: Output,
    **options: Any,
) -> None:
    """Train, prune, quantize, lower and measure a model.

    MODEL is a name of the zoo (cnn, lenet5, resnet20, ...), file.py:factory, or a file.onnx. Without any argument: the
    cnn on scikit-learn's digits, for this machine.
    """
    from edgeprune.registry import require

    require("jinja2", "matplotlib", extra="compile")
    from edgeprune.api import compile_measured, forecast
    from edgeprune.bundle import REPORT
    from edgeprune.report.document import document
    from edgeprune.report.tables import page

    if dry_run:
        from dataclasses import asdict

        from edgeprune.cli.foreseen import lines

        with output.progress() as progress:
            foreseen = forecast(
                options,
                target=target,
                recipe=recipe,
                out=out,
                backends=backends,
                speed_only=speed_only,
                force=force,
                progress=progress,
            )
        output.show(asdict(foreseen), *lines(foreseen))
        return
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
