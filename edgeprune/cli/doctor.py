"""`edgeprune doctor`: what each target can do here, and what is missing."""

from __future__ import annotations

import click

from edgeprune.cli.output import Output, output_options


@click.command()
@output_options
def doctor(output: Output) -> None:
    """Say what each target can do here, and what is missing.

    Each lack with the command that gets it.
    """
    from dataclasses import asdict

    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from edgeprune.doctor import EXTRAS, Ability, examine

    def said(ability: Ability) -> str:
        return "yes" if ability.able else f"no: {ability.reason}"

    found = examine()
    targets = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("target", "compile", "run here", "measure here", "energy"):
        targets.add_column(title, overflow="fold")
    for target in found.targets:
        runs = "\n".join(f"{name}: {said(ability)}" for name, ability in target.run.items())
        targets.add_row(target.name, said(target.compile), runs, said(target.measure), target.energy)
    remedies: dict[str, list[str]] = {}
    for target in found.targets:
        for remedy in dict.fromkeys(one.remedy for one in target.abilities if one.remedy):
            remedies.setdefault(remedy, []).append(target.name)
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in found.versions.items())
    told = " ".join([*remedies, found.proof])
    lacking = (extra for extra, packages in EXTRAS.items() if any(found.versions[one] is None for one in packages))
    absent = [extra for extra in lacking if f"edgeprune[{extra}]" not in told]
    lines = [
        *(f"warning: {warning}" for warning in found.warnings),
        *(f"to get what is missing for {', '.join(names)}: {remedy}" for remedy, names in remedies.items()),
        f"Python {found.python}: {versions}",
        *(f"to get extra `{extra}`: pip install 'edgeprune[{extra}]'" for extra in absent),
        found.proof,
        found.data,
    ]
    output.show(asdict(found), Group(targets, Text(), Text("\n".join(lines))))
