"""The one place where an error becomes a line and an exit code."""

from __future__ import annotations

import errno
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
from typing import Any, NoReturn

import click

from edgeprune.errors import EdgePruneError

BROKEN_PIPE = 141
"""What a shell reports of a program whose reader went away (128 + SIGPIPE)."""
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REPEATED_SECONDS = 1.0
"""A signal so soon after another is the same: `timeout` sends it twice, which must not end the cleaning up."""
NOT_WRITABLE = {errno.ENOSPC: "make room", errno.EDQUOT: "make room", errno.EROFS: "write elsewhere"} | dict.fromkeys(
    (errno.EACCES, errno.EPERM), "check its permissions"
)


class Unread(Exception):  # noqa: N818
    """The reader of stdout went away."""


class Stopped(KeyboardInterrupt):
    """One of STOPPING has come; raised where the program stands, so that all is cleaned up as after Ctrl-C.

    Not a KeyboardInterrupt itself: where one passes an `exec`, as that of dataclasses, Python ends by SIGINT after all.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)


class Program(click.Command):
    """A command that ends its process, with one line and the exit code of `errors`."""

    again = ""
    """What the line says of a program that was stopped: of one that keeps what is done, how to go on."""

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
            return _fail(how + self.again, 128 + number)
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
