"""Where a command's words go: its result to stdout, as text or as one JSON document; all else to stderr."""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

import click

from edgeprune.progress import SILENT, Progress
from edgeprune.registry import unknown

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH = 100
"""Columns that tables are laid out for; a narrower terminal wraps lines rather than lose digits."""


@dataclass(frozen=True)
class Output:
    """What the user asked to see."""

    as_json: bool
    quiet: bool
    stdout: TextIO = field(default_factory=lambda: sys.stdout)

    def progress(self) -> AbstractContextManager[Progress]:
        """Bars on a terminal, lines elsewhere, nothing with `--quiet`."""
        if self.quiet:
            return nullcontext(SILENT)
        from edgeprune.cli.progress_display import display

        return display(sys.stderr)

    def show(self, document: object, *texts: RenderableType) -> None:
        """Print the result: `document` as JSON where that was asked for, else `texts`."""
        with redirect_stdout(self.stdout):
            self._print(document, texts)

    def _print(self, document: object, texts: tuple[RenderableType, ...]) -> None:
        if self.as_json:
            click.echo(json.dumps(document, indent=1))
            return
        from rich.console import Console

        console = Console(highlight=False, markup=False, emoji=False)
        console = Console(highlight=False, markup=False, emoji=False, width=max(console.width, WIDTH))
        for text in texts:
            console.print(text, soft_wrap=isinstance(text, str))


class OneOf(click.Choice[str]):
    """A choice whose error names the nearest; `kind` is what the names are called."""

    def __init__(self, kind: str, names: tuple[str, ...]) -> None:
        super().__init__(names)
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name itself. Raises UnknownNameError."""
        if value not in self.choices:
            raise unknown(self.kind, str(value), self.choices)
        return str(value)


def output_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--json`, `-v` and `-q`, and hand it an Output as `output`.

    All else that is printed while it runs, by a user's factory say, goes to stderr.
    """

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else on stdout.")
    @click.option("-v", "--verbose", count=True, help="Show what libraries log; twice: with their details.")
    @click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
    @functools.wraps(command)
    def with_output(*args: Any, as_json: bool, verbose: int, quiet: bool, **kwargs: Any) -> None:
        level = {0: logging.ERROR, 1: logging.INFO}.get(verbose, logging.DEBUG)
        logging.basicConfig(level=level, stream=sys.stderr, format="%(name)s: %(message)s", force=True)
        logging.captureWarnings(capture=True)
        output = Output(as_json, quiet)
        with redirect_stdout(sys.stderr):
            command(*args, output=output, **kwargs)

    return with_output
