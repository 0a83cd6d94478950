"""`edgeprune bench`: measure bundles on this machine, and keep what was found."""

from __future__ import annotations

from pathlib import Path

import click

from edgeprune.cli.output import Output, output_options


@click.command()
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...", type=click.Path(path_type=Path))
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Timed per variant and restart.")
@click.option("--restarts", type=click.IntRange(min=1), help="Processes per variant.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("bench_results"), show_default=True)
@click.option("--resume", is_flag=True, help="Keep what was measured before on this machine in the same way.")
@output_options
def bench(
    bundles: tuple[Path, ...],
    seconds: float | None,
    restarts: int | None,
    out: Path,
    resume: bool,
    output: Output,
) -> None:
    """Measure bundles on this machine.

    Every variant takes turns with its baseline. Writes <out>/<target>/<bundle>.json with the timed samples, and
    <out>/README.md with one table over all that is there.
    """
    from edgeprune.registry import require

    require("jinja2", "matplotlib", extra="compile")
    from dataclasses import replace

    from edgeprune.api import stage_cache
    from edgeprune.bench import Settings
    from edgeprune.bundle import open_bundle
    from edgeprune.pipeline.measure import measure_bundle
    from edgeprune.report.bench_results import check_out, keep
    from edgeprune.report.document import document
    from edgeprune.report.tables import page

    usual = Settings()
    settings = replace(usual, seconds=seconds or usual.seconds, restarts=restarts or usual.restarts)
    opened = [open_bundle(path) for path in bundles]
    check_out(opened, out)
    found, pages = [], []
    with output.progress() as progress:
        for bundle in opened:
            measured = measure_bundle(bundle, cache=stage_cache(again=not resume), settings=settings, progress=progress)
            kept = keep(measured, bundle.root, out)
            found.append({"bundle": str(bundle.root), "file": str(kept)} | document(measured))
            pages += [page(measured, bundle.core), f"kept in {kept}\n"]
    output.show(found, *pages)
