from __future__ import annotations

import io
import itertools
from collections.abc import Iterator

import pytest

from edgeprune.cli.progress_display import Lines, display


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def ticking(*times: float) -> Iterator[float]:
    yield from times


def test_elsewhere_a_task_tells_that_it_is_done():
    stream = io.StringIO()
    clock = ticking(0.0, 1.0, 2.5)
    with Lines(stream, lambda: next(clock)).task("train", 12) as task:
        task.advance(note="loss 0.31")
    assert stream.getvalue() == "train: 2.5 s, loss 0.31\n"


def test_elsewhere_a_long_task_tells_every_ten_seconds_how_far_it_is():
    stream = io.StringIO()
    now = [0.0]
    with Lines(stream, lambda: now[0]).task("train", 12) as task:
        for _ in range(12):
            now[0] += 4
            task.advance()
    assert stream.getvalue().splitlines() == [
        "train: 3 of 12",
        "train: 6 of 12",
        "train: 9 of 12",
        "train: 12 of 12",
        "train: 48.0 s",
    ]


def test_what_was_done_at_once_leaves_no_line():
    stream = io.StringIO()
    clock = ticking(0.0, 0.1, 0.9)
    with Lines(stream, lambda: next(clock)).task("epoch 1/30", 12) as task:
        task.advance(note="loss 0.31")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_task_that_fails_does_not_say_that_it_ended(stream):
    clock = itertools.count(0.0, 5.0)

    def work() -> None:
        with display(stream, lambda: next(clock)) as progress, progress.task("export"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert " s" not in stream.getvalue()


def test_on_a_terminal_a_finished_task_leaves_one_line():
    stream = Terminal()
    clock = ticking(0.0, 4.0)
    with display(stream, lambda: next(clock)) as progress:
        with progress.task("train", 2) as task:
            task.advance(2, "loss 0.1")
        progress.say("layer [3] left whole")
    kept = stream.getvalue()
    assert "train: 4.0 s, loss 0.1" in kept
    assert "layer [3] left whole" in kept


def test_tasks_may_stand_within_tasks():
    stream = Terminal()
    clock = itertools.count(0.0, 5.0)
    with display(stream, lambda: next(clock)) as progress, progress.task("outer", 1) as outer:
        with progress.task("inner") as inner:
            inner.advance()
        outer.advance()
    assert stream.getvalue().index("inner:") < stream.getvalue().index("outer:")
