"""`edgeprune diff`: what differs between two bundles."""

from __future__ import annotations

from pathlib import Path

import click

from edgeprune.cli.output import Output, output_options


@click.command()
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="B", type=click.Path(path_type=Path))
@output_options
def diff(a: Path, b: Path, output: Output) -> None:
    """Say what differs between two bundles.

    What was measured is compared only where both were measured in the same environment.
    """
    from edgeprune.bundle import open_bundle
    from edgeprune.report.contents import measured_of
    from edgeprune.report.difference import difference, document, page

    first, second = open_bundle(a), open_bundle(b)
    found = difference(first, second, measured_of(first), measured_of(second))
    output.show(document(found), page(first, second, found))
