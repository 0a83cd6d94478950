"""How long work tells that it goes on: a protocol, silent unless the command line supplies a display."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """`steps` more are done; `note` is a short state such as `loss 0.31`."""
        ...


class Progress(Protocol):
    """Where work reports."""

    def task(self, name: str, total: int | None = None) -> AbstractContextManager[Task]:
        """Open a task of `total` steps (None: unknown)."""
        ...

    def say(self, text: str) -> None:
        """One line that stays: a stage was skipped, a layer was left whole and why."""
        ...


class SilentTask:
    """A task nobody watches."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Do nothing."""


class Silent:
    """Progress nobody watches: the default of every function that takes one."""

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[SilentTask]:
        """Yield a task that ignores what it is told."""
        yield SilentTask()

    def say(self, text: str) -> None:
        """Do nothing."""


SILENT = Silent()
