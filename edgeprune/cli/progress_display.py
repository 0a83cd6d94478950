"""Progress on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from edgeprune.progress import Progress, Task

QUIET_SECONDS = 10.0
"""How long a task may go on before a line elsewhere says that it does."""
MENTIONED_SECONDS = 1.0
"""What took less leaves no line."""


def display(stream: TextIO, clock: Callable[[], float] = time.monotonic) -> AbstractContextManager[Progress]:
    """What suits the stream."""
    return _bars(stream, clock) if stream.isatty() else _lines(stream, clock)


class Lines:
    """One line when a task is done, and before that one every ten seconds; none for what was done at once."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Task]:
        """Open a task."""
        task = _Line(name, total, self._clock, self.say)
        yield task
        task.end()

    def say(self, text: str) -> None:
        """Write a line."""
        self._stream.write(text + "\n")
        self._stream.flush()


class Bars:
    """A bar for every task under way; a finished one leaves a line."""

    def __init__(self, progress: RichProgress, clock: Callable[[], float]) -> None:
        self._progress = progress
        self._clock = clock

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Task]:
        """Open a task."""
        bar = self._progress.add_task(name, total=total, note="")
        task = _Line(name, total, self._clock, self.say)
        try:
            yield _Bar(task, self._progress, bar)
        finally:
            self._progress.remove_task(bar)
        task.end()

    def say(self, text: str) -> None:
        """Write a line above the bars."""
        self._progress.console.print(text, style="dim")


class _Line:
    """Counts a task's steps, and tells of them now and then."""

    def __init__(self, name: str, total: int | None, clock: Callable[[], float], say: Callable[[str], None]) -> None:
        self.name, self.total = name, total
        self.steps, self.note = 0, ""
        self._clock, self._say = clock, say
        self._started = self._told = clock()

    def count(self, steps: int, note: str) -> None:
        self.steps += steps
        self.note = note or self.note

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.count(steps, note)
        if self._clock() - self._told >= QUIET_SECONDS:
            self._told = self._clock()
            of = f" of {self.total}" if self.total is not None else ""
            self._say(f"{self.name}: {self.steps}{of}{self._noted()}")

    def end(self) -> None:
        if (seconds := self._clock() - self._started) >= MENTIONED_SECONDS:
            self._say(f"{self.name}: {seconds:.1f} s{self._noted()}")

    def _noted(self) -> str:
        return f", {self.note}" if self.note else ""


class _Bar:
    """A task whose steps move a bar."""

    def __init__(self, line: _Line, progress: RichProgress, bar: TaskID) -> None:
        self._line, self._progress, self._bar = line, progress, bar

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._line.count(steps, note)
        self._progress.update(self._bar, advance=steps, note=self._line.note)


@contextmanager
def _lines(stream: TextIO, clock: Callable[[], float]) -> Iterator[Progress]:
    yield Lines(stream, clock)


@contextmanager
def _bars(stream: TextIO, clock: Callable[[], float]) -> Iterator[Progress]:
    note = TextColumn("{task.fields[note]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), note)
    console = Console(file=stream, highlight=False, markup=False)
    with RichProgress(*columns, console=console, transient=True) as progress:
        yield Bars(progress, clock)
