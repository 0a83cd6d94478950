"""`edgeprune targets`: the device types there are."""

from __future__ import annotations

import click

from edgeprune.cli.output import Output, output_options


@click.group()
def targets() -> None:
    """List and show the device types there are."""


@targets.command("list")
@output_options
def list_(output: Output) -> None:
    """List them, with the runtimes and precisions that each executes."""
    from rich.table import Table

    from edgeprune.targets.load import load_target, target_names

    known = [load_target(name) for name in target_names()]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("name", "aliases", "device", "runs"):
        table.add_column(title)
    for target in known:
        runs = "; ".join(f"{name} {'/'.join(use.precisions)}" for name, use in target.backends.items())
        table.add_row(target.name, ", ".join(target.aliases), target.title, runs)
    output.show([target.model_dump(mode="json") for target in known], table)


@targets.command()
@click.argument("name", metavar="NAME|FILE")
@output_options
def show(name: str, output: Output) -> None:
    """Check a target and print what is known of it, with the sources."""
    import yaml

    from edgeprune.targets.load import load_target

    target = load_target(name).model_dump(mode="json", exclude_none=True)
    output.show(target, yaml.safe_dump(target, sort_keys=False, allow_unicode=True, width=100).rstrip())
