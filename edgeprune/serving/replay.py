"""Send a trace through a session: open loop, so that a slow answer delays no arrival; latency counts from the schedule.

Nobody need wait in another thread for what is known beforehand: all requests that are due and not served are the queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.backends.backend import Feeds
from edgeprune.serving.contention import Contender, Contention
from edgeprune.serving.sampler import Sample, Sampler
from edgeprune.serving.session import AdaptiveRunner, Change
from edgeprune.serving.trace import Trace

SPIN_S = 0.0005
"""A sleep may end so much too late; that long before an arrival it is waited for awake."""
MS = 1e3
Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Replayed:
    """One run: of each request, in order, [N]."""

    trace: Trace
    precisions: tuple[str, ...]
    """Of the ladder."""
    rungs: NDArray[np.int8]
    start_s: NDArray[np.float64]
    """When it was served, by the clock of the trace."""
    end_s: NDArray[np.float64]
    queue: NDArray[np.int64]
    """How many waited behind it."""
    deadline_ms: float
    changes: tuple[Change, ...]
    failures: tuple[str, ...]
    samples: tuple[Sample, ...]
    """The machine's condition, by the clock of the trace."""
    answers: tuple[Outputs, ...] = field(default=(), repr=False)
    """What each got, where that was to be kept."""

    @property
    def latency_ms(self) -> NDArray[np.float64]:
        """From the scheduled arrival to the answer [N]."""
        return MS * (self.end_s - self.trace.arrivals_s[: len(self.end_s)])

    @property
    def service_ms(self) -> NDArray[np.float64]:
        """Of the session alone [N]."""
        return MS * (self.end_s - self.start_s)

    @property
    def missed(self) -> NDArray[np.bool_]:
        """Which were later than the deadline [N]."""
        return self.latency_ms > self.deadline_ms

    @property
    def shares(self) -> dict[str, float]:
        """Of the requests, by the precision they were served with."""
        return {name: float(np.mean(self.rungs == i)) for i, name in enumerate(self.precisions)}


def replay(
    trace: Trace,
    session: AdaptiveRunner,
    feeds: Sequence[Feeds],
    *,
    contention: Contention | None = None,
    sampler: Sampler | None = None,
    keep: Callable[[Outputs], Outputs] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> Replayed:
    """Serve every request of a trace; the inputs are taken in turn from `feeds`.

    `keep` says what of each answer is kept. `clock` is that of the session. Raises what the session raises where no
    variant can answer.
    """
    arrivals = trace.arrivals_s
    count, inputs = len(arrivals), len(feeds)
    rungs, queue = np.zeros(count, np.int8), np.zeros(count, np.int64)
    start_s, end_s = np.zeros(count), np.zeros(count)
    answers: list[Outputs] = []
    due_s = arrivals.tolist()  # a Python float is read much faster than an element
    changes, failures = len(session.changes), len(session.failures)
    with Contender(contention) as other:
        if sampler is not None:
            sampler.take()
        other.start()
        begin_s, come = clock(), 0
        for i in range(count):
            at_s = begin_s + due_s[i]
            now_s = clock()
            if now_s < at_s:
                if at_s - now_s > SPIN_S:
                    sleep(at_s - now_s - SPIN_S)
                while now_s < at_s:
                    now_s = clock()
            while come < count and begin_s + due_s[come] <= now_s:
                come += 1
            outputs = session.infer(
                feeds[i % inputs], trace.classes[i] if trace.classes else None, arrived_s=at_s, waiting=come - i - 1
            )
            rungs[i], start_s[i], end_s[i] = session.last
            queue[i] = come - i - 1
            if keep is not None:
                answers.append(keep(outputs))
    taken = sampler.take() if sampler is not None else []
    return Replayed(
        trace,
        tuple(rung.precision for rung in session.rungs),
        rungs,
        start_s - begin_s,
        end_s - begin_s,
        queue,
        session.deadline_ms,
        tuple(session.changes[changes:]),
        tuple(session.failures[failures:]),
        tuple(sample._replace(at_s=sample.at_s - begin_s) for sample in taken),
        tuple(answers),
    )
