"""The group of all commands, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import errno
import importlib
import io
import logging
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import click

from edgeprune.errors import EdgePruneError
from edgeprune.registry import unknown

BROKEN_PIPE = 141
"""What a shell reports of a program whose reader went away (128 + SIGPIPE)."""
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REPEATED_SECONDS = 1.0
"""A signal so soon after another is the same: `timeout` sends it twice, which must not end the cleaning up."""
NOT_WRITABLE = {errno.ENOSPC: "make room", errno.EDQUOT: "make room", errno.EROFS: "write elsewhere"} | dict.fromkeys(
    (errno.EACCES, errno.EPERM), "check its permissions"
)


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


class Unread(Exception):  # noqa: N818
    """The reader of stdout went away."""


class Stopped(KeyboardInterrupt):
    """One of STOPPING has come; raised where the program stands, so that all is cleaned up as after Ctrl-C.

    Not a KeyboardInterrupt itself: where one passes an `exec`, as that of dataclasses, Python ends by SIGINT after all.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)


class Cli(click.Group):
    """Imports a command when it is called; ends with one line and the exit code of `errors`."""

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

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the words of the command line; `--help` and `--version` are answered here."""
        with _unread():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _unread():
            return super().invoke(ctx)

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run, and end the process."""
        _prepare_streams()
        _prepare_signals()
        sys.exit(self._ending(*args, **kwargs | {"standalone_mode": False}))

    def _ending(self, *args: Any, **kwargs: Any) -> int:
        """The exit code, after the line that explains it."""
        try:
            code: int | None = super().main(*args, **kwargs)
            sys.stdout.flush()
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return error.exit_code
        except click.UsageError as error:
            where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
            return _fail(error.format_message() + where, error.exit_code)
        except click.ClickException as error:
            return _fail(error.format_message(), error.exit_code)
        except (click.Abort, KeyboardInterrupt) as error:
            stopped = error.__cause__ if isinstance(error, click.Abort) else error
            number = stopped.number if isinstance(stopped, Stopped) else signal.SIGINT
            how = "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"
            return _fail(f"{how}: the same command goes on where it stopped", 128 + number)
        except EdgePruneError as error:
            logging.getLogger(__name__).debug("raised here:", exc_info=error)
            return _fail(str(error), error.exit_code)
        except (Unread, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing left to flush at exit
            return BROKEN_PIPE
        except OSError as error:
            if error.errno not in NOT_WRITABLE:
                return _crash()
            place = f"{error.filename}: " if error.filename else ""
            return _fail(f"{place}{(error.strerror or str(error)).lower()}: {NOT_WRITABLE[error.errno]}", 2)
        except Exception:  # a bug of ours: shown whole
            return _crash()
        return code or 0


def _prepare_streams() -> None:
    """Give a closed stream (`>&-`) a place to write to, and let no letter that stdout's encoding lacks be a crash."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _prepare_signals() -> None:
    """Let STOPPING end the program cleanly; one that is ignored, as under nohup, stays so."""
    if threading.current_thread() is not threading.main_thread():  # where Python allows no handler
        return
    raised = -math.inf

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal raised
        if time.monotonic() - raised > REPEATED_SECONDS:
            raised = time.monotonic()
            raise Stopped(number)

    for number in STOPPING:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, stop)


@contextmanager
def _unread() -> Iterator[None]:
    """Raise Unread for a BrokenPipeError, of which click and Rich would make an exit with 1."""
    try:
        yield
    except BrokenPipeError as error:
        raise Unread from error
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            raise Unread from ended
        raise


def _fail(message: str, code: int) -> int:
    with suppress(OSError):  # a terminal that hung up
        click.echo(f"error: {' '.join(message.split())}", err=True)
    return code


def _crash() -> int:
    traceback.print_exc()
    click.echo(
        "This is a bug of EdgePrune: please report the lines above, and what `edgeprune doctor` prints.", err=True
    )
    return 1


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
