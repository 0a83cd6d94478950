"""`edgeprune report`: one page about all bundles there are."""

from __future__ import annotations

from pathlib import Path

import click

from edgeprune.cli.output import Output, output_options


@click.command()
@click.argument("folders", nargs=-1, metavar="[DIR]...", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True)
@output_options
def report(folders: tuple[Path, ...], out: Path, output: Output) -> None:
    """Write an HTML page about measured bundles.

    About every bundle and every bench result below DIR: build, unless another is given.
    """
    from edgeprune.registry import require

    require("jinja2", "matplotlib", extra="compile")
    from edgeprune.report.bench_results import find
    from edgeprune.report.html import render, save

    found = find(folders or (Path("build"),))
    save(render(found), out)
    output.show({"report": str(out), "bundles": len(found)}, f"{out}: {len(found)} bundles")
