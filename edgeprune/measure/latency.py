"""Time single inferences."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np

BLOCK = 10
"""Runs whose median is one point of the warm-up curve: a median ignores what an interrupt does to one run."""
WINDOW = 5
"""Points that must agree."""
STEADY = 0.03
"""Coefficient of variation (standard deviation over mean) up to which they do."""


@dataclass(frozen=True)
class WarmUp:
    """How warming up went."""

    runs: int
    seconds: float
    stable: bool
    """Whether latency had settled before the time was up."""


def warm_up(
    run: Callable[[], object], *, min_s: float, max_s: float, clock_ns: Callable[[], int] = perf_counter_ns
) -> WarmUp:
    """Run for at least `min_s` and until the rolling coefficient of variation is small, for `max_s` at most."""
    begin, runs = clock_ns(), 0
    points: deque[float] = deque(maxlen=WINDOW)
    while True:
        points.append(float(np.median(time_runs(run, seconds=0, least=BLOCK, most=BLOCK, clock_ns=clock_ns))))
        runs += BLOCK
        seconds = (clock_ns() - begin) * 1e-9
        stable = len(points) == WINDOW and float(np.std(points)) <= STEADY * float(np.mean(points))
        if seconds >= max_s or (stable and seconds >= min_s):
            return WarmUp(runs, seconds, stable)


def time_runs(
    run: Callable[[], object],
    *,
    seconds: float,
    least: int,
    most: int,
    clock_ns: Callable[[], int] = perf_counter_ns,
) -> list[float]:
    """Milliseconds of single runs, in order, over at least `seconds` and `least` runs.

    Of more than `most` the last are kept: they are the furthest from whatever ran on this core before.
    """
    kept: deque[int] = deque(maxlen=most)
    runs, stop = 0, clock_ns() + round(seconds * 1e9)
    while True:
        begin = clock_ns()
        run()
        end = clock_ns()
        kept.append(end - begin)
        runs += 1
        if runs >= least and end >= stop:
            return [ns * 1e-6 for ns in kept]
