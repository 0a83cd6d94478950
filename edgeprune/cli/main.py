"""The group of all commands."""

from __future__ import annotations

import importlib
from typing import NamedTuple

import click

from edgeprune.cli.program import Program
from edgeprune.registry import unknown


class Entry(NamedTuple):
    """Where a command is, and its line in the help: reading that must not import it."""

    where: str
    help: str


COMMANDS = {
    "compile": Entry("edgeprune.cli.compile:compile_", "Train, prune, quantize, lower and measure a model."),
    "train": Entry("edgeprune.cli.train:train", "Train a model's weights."),
    "prune": Entry("edgeprune.cli.prune:prune", "Make a trained network smaller."),
    "export": Entry("edgeprune.cli.export:export", "Turn a network into an ONNX file."),
    "quantize": Entry("edgeprune.cli.quantize:quantize", "Turn an ONNX file into integers for one runtime."),
    "lower": Entry("edgeprune.cli.lower:lower", "Turn an ONNX file into what travels to a device."),
    "bench": Entry("edgeprune.cli.bench:bench", "Measure bundles on this machine."),
    "show": Entry("edgeprune.cli.show:show", "Say what a bundle is."),
    "diff": Entry("edgeprune.cli.diff:diff", "Say what differs between two bundles."),
    "run": Entry("edgeprune.cli.run:run", "Run samples through a variant on this machine."),
    "serve": Entry("edgeprune.cli.serve:serve", "Serve a bundle under a load, in the precision that it allows."),
    "lab": Entry("edgeprune.cli.lab:lab", "Measure bundles on many devices over SSH, and tell what came of it."),
    "report": Entry("edgeprune.cli.report:report", "Show measured bundles side by side, or write a page or table."),
    "targets": Entry("edgeprune.cli.targets:targets", "List, show, check and detect device types."),
    "cache": Entry("edgeprune.cli.cache:cache", "List and remove the finished stages that are kept."),
    "doctor": Entry("edgeprune.cli.doctor:doctor", "Say what each target can do here, and what is missing."),
}


class Cli(Program, click.Group):
    """Imports a command when it is called."""

    again = ": the same command goes on where it stopped"

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].where.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Raise UnknownNameError with the nearest name where there is no such command."""
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            raise unknown("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table's own help lines."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from edgeprune import __version__

        click.echo(f"edgeprune {__version__}")
        ctx.exit()


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def main() -> None:
    """Compile a neural network for an edge device, and measure what came out.

    Exit codes: 0 done, 1 a bug of ours, 2 bad input, 3 a budget is not met, 4 something needed is missing,
    5 a device failed, 6 an operator fell back, 130 interrupted, 143 or 129 stopped by SIGTERM or SIGHUP.
    """
