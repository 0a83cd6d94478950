"""What a server could do that knows the trace: the best schedule of precisions, by dynamic programming.

It may change at every request, without a hold and at no cost, so nothing that must decide as requests come can do
better than it with the same service times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.serving.replay import Replayed

GRID = 256
"""Steps in which a backlog of up to twice the deadline is told apart; between them values are taken to run straight."""
ENOUGH = 5
"""Inferences in a second, to tell what they take in it."""
ROUNDS = 9
PENALTIES = (1e-2, 1e3)
"""What a miss may cost, in requests of the most precise rung."""


@dataclass(frozen=True)
class Schedule:
    """The rung of each request [N], and how it would have gone."""

    rungs: NDArray[np.int8]
    latency_s: NDArray[np.float64]
    missed: int


@dataclass(frozen=True)
class Services:
    """What an inference takes in each rung, when it begins in a second of the trace: seconds [rungs, seconds]."""

    table_s: NDArray[np.float64]

    def at(self, rung: int, start_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of inferences that begin then."""
        row = self.table_s[rung]
        found: NDArray[np.float64] = row[np.minimum(start_s.astype(np.int64), len(row) - 1)]
        return found


def services(own: Replayed, fixed: Sequence[Replayed]) -> Services:
    """Means by second: as the run that is judged took them itself, so that who knows the trace meets what it met.

    Where it served too few with a rung in a second: as the run that had this rung fixed took them, and where that had
    too few, its mean over all. `fixed` holds a run for each rung.
    """
    count = int(np.ceil(max(run.end_s[-1] for run in (own, *fixed))))
    table = np.empty((len(fixed), count))
    for rung, (row, run) in enumerate(zip(table, fixed, strict=True)):
        row[:] = (run.end_s - run.start_s).mean()
        for one in (run, own):
            mine = one.rungs == rung
            second = one.start_s[mine].astype(np.int64)
            began = np.bincount(second, minlength=count)
            took_s = np.bincount(second, (one.end_s - one.start_s)[mine], count)
            row[began >= ENOUGH] = (took_s / np.maximum(began, 1))[began >= ENOUGH]
    return Services(table)


def best(
    arrivals_s: NDArray[np.float64], served: Services, deadline_s: float, worth: Sequence[float], allowed: int
) -> Schedule:
    """The schedule with the greatest sum of `worth` (by rung) that misses at most `allowed` deadlines.

    A miss costs a penalty, the least with which they are few enough (a Lagrange multiplier, found by halving); what no
    penalty can avoid stays. No schedule on the same grid has more worth at as many misses.
    """
    least, most = PENALTIES
    found = schedule(arrivals_s, served, deadline_s, worth, most)
    for _ in range(ROUNDS):
        middle = float(np.sqrt(least * most))
        tried = schedule(arrivals_s, served, deadline_s, worth, middle)
        if tried.missed <= max(allowed, found.missed):
            most, found = middle, tried
        else:
            least = middle
    return found


def schedule(
    arrivals_s: NDArray[np.float64], served: Services, deadline_s: float, worth: Sequence[float], penalty: float
) -> Schedule:
    """The one with the greatest sum of `worth`, less `penalty` for each miss.

    V_i(b) = max over rungs v of  worth_v - penalty [b + s_v > deadline] + V_(i+1)(max(0, b + s_v - gap_i)), where b is
    how long request i waits and s_v its service: V from the last request to the first, then the best rung forward.
    """
    count, rungs = len(arrivals_s), len(worth)
    top_s = 2 * deadline_s
    grid = np.linspace(0.0, top_s, GRID + 1)
    gaps = np.append(np.diff(arrivals_s), np.inf)
    value, gain = np.zeros(GRID + 1), np.empty((rungs, GRID + 1))
    choice = np.empty((count, GRID + 1), np.int8)
    for i in range(count - 1, -1, -1):
        for rung in range(rungs):
            end_s = grid + served.at(rung, arrivals_s[i] + grid)
            after = np.interp(np.maximum(0.0, end_s - gaps[i]), grid, value)
            gain[rung] = worth[rung] - penalty * (end_s > deadline_s) + after
        choice[i] = gain.argmax(axis=0)
        value = np.take_along_axis(gain, choice[i][None].astype(np.intp), 0)[0]
    taken, latency_s, waits_s = np.empty(count, np.int8), np.empty(count), 0.0
    for i in range(count):
        # the next coarser backlog: what is safe there is safe here
        taken[i] = choice[i, min(GRID, int(np.ceil(waits_s / top_s * GRID)))]
        latency_s[i] = waits_s + served.at(int(taken[i]), np.array([arrivals_s[i] + waits_s]))[0]
        waits_s = max(0.0, latency_s[i] - gaps[i])
    return Schedule(taken, latency_s, int((latency_s > deadline_s).sum()))
