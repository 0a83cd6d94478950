"""`edgeprune report`: tables, a page or a file about all bundles there are."""

from __future__ import annotations

from pathlib import Path

import click

from edgeprune.cli.output import Output, output_options


@click.command()
@click.argument("folders", nargs=-1, metavar="[DIR]...", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", metavar="FILE", type=click.Path(path_type=Path), help="A .html, .md, .csv or .parquet file."
)
@click.option("--apart", is_flag=True, help="A .csv or .parquet file for each machine and scenario.")
@output_options
def report(folders: tuple[Path, ...], out: Path | None, apart: bool, output: Output) -> None:
    """Show measured bundles side by side, or write a page or table.

    Every bundle and every bench result below DIR: build, unless another is given. Without -o as tables, and in full
    where it is one bundle.

    Only what was measured alike stands in one table. A page has a table for each machine and scenario; a .csv or
    .parquet file is one table, so several are refused, unless each gets a file of its own with --apart.
    """
    if apart and out is None:
        raise click.UsageError("--apart has no effect without -o FILE: there is a table for each machine anyway")
    from edgeprune.report.document import document
    from edgeprune.report.formats import check_format, write
    from edgeprune.report.overview import overview
    from edgeprune.report.source import find

    if out is not None:
        check_format(out, apart=apart)
    found = find(folders or (Path("build"),))
    if out is None:
        output.show(
            [{"bundle": one.name, "file": str(one.path)} | document(one.measured) for one in found], overview(found)
        )
        return
    written = write(found, out, apart=apart)
    files = [str(path) for path in written]
    output.show(
        {"files": files, "bundles": len(found)}, *(f"{path}: {count} bundles" for path, count in written.items())
    )
