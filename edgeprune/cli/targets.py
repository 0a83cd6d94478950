"""`edgeprune targets`: the device types there are, and files that describe others."""

from __future__ import annotations

from pathlib import Path

import click

from edgeprune.cli.output import Output, output_options


@click.group()
def targets() -> None:
    """List, show, check and detect device types."""


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
    """Print what is known of a target, with the sources."""
    from edgeprune.targets.load import load_target
    from edgeprune.targets.save import to_yaml

    target = load_target(name)
    output.show(target.model_dump(mode="json", exclude_none=True), to_yaml(target).rstrip())


@targets.command()
@click.argument("file", metavar="FILE")
@output_options
def check(file: str, output: Output) -> None:
    """Check a target file, and print what it says and what can be done for it here."""
    from dataclasses import asdict

    from edgeprune.doctor import check as check_
    from edgeprune.targets.load import load_target
    from edgeprune.targets.save import to_yaml

    target = load_target(file)
    report = check_(target)
    abilities = {"compile here": report.compile, "measure here": report.measure} | {
        f"run with {name} here": ability for name, ability in report.run.items()
    }
    document = {"file": file, "target": target.model_dump(mode="json", exclude_none=True), "here": asdict(report)}
    output.show(
        document,
        to_yaml(target),
        *(f"{what}: {'yes' if able.able else f'no: {able.reason}'}" for what, able in abilities.items()),
        f"energy: {report.energy}",
        f"{file}: is a target file",
    )


@targets.command()
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help="A new .yaml file, named as the target."
)
@output_options
def detect(out: Path | None, output: Output) -> None:
    """Describe this machine as a target, and write that as a file."""
    from edgeprune.targets.detect import detect as detect_
    from edgeprune.targets.save import save, to_yaml
    from edgeprune.worker.probe import probe

    target = detect_(probe(), out.stem if out is not None else None)
    if out is not None:
        save(target, out)
    output.show(
        {"file": str(out) if out is not None else None, "target": target.model_dump(mode="json", exclude_none=True)},
        to_yaml(target).rstrip() if out is None else f"{out}: target {target.name}, {target.title}",
    )
