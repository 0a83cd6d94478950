"""`edgeprune show`: what a bundle is."""

from __future__ import annotations

from pathlib import Path

import click

from edgeprune.cli.output import Output, output_options


@click.command()
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path))
@output_options
def show(bundle: Path, output: Output) -> None:
    """Say what a bundle is.

    Its variants with their sizes, what was pruned of each layer, the precision of each layer as it was meant and as it
    ran, its data, and the command that makes it again.
    """
    from edgeprune.bundle import open_bundle
    from edgeprune.report.contents import contents, measured_of, page

    opened = open_bundle(bundle)
    measured = measured_of(opened)
    output.show(contents(opened, measured), page(opened, measured))
