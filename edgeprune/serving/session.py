"""A runner that changes its precision: several variants behind one `infer`, chosen by a policy."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from time import perf_counter
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeprune.backends.backend import Compilation, Feeds, Runner, check_feeds
from edgeprune.errors import BudgetError, EdgePruneError, InputError
from edgeprune.measure.latency import time_runs
from edgeprune.serving.arrivals import Arrivals
from edgeprune.serving.policy import Ladder, Policy, Readings, Rung, place
from edgeprune.serving.residency import Residency
from edgeprune.serving.sampler import Sample, Sampler
from edgeprune.serving.turns import Turns

MS = 1e3
HOLD = 50
"""Requests for which a change binds, unless told."""
DEADLINE = 50
"""Inferences of the most precise variant that a request may take, unless told: as many as a change binds for."""
RECENT = 1 / 16
"""Weight of the newest request in what is called recent."""
OUTLIER = 4.0
"""An inference that took more than so many times its usual is an interrupt, and tells no more than that."""
FORGET = 1 - 1 / 1024
"""What is left after a request of the longest stall, and of the worst slowdown."""
ROUNDS, ROUND_S, LEAST, MOST = 5, 0.04, 3, 1000
"""How the service of each variant is measured when a session opens: by turns, so that a disturbance hits all alike."""
FASTER = 0.95
"""Of the time of a more precise variant: what a less precise one may take at most to be of use."""
BUFFER = 1024
BUCKETS_MS = tuple(base * 10.0**power for power in range(-2, 4) for base in (1, 2, 5))
"""Upper ends of the latency histogram, from 10 microseconds to 5 seconds."""


class Variant(NamedTuple):
    """What a session opens: one runtime in one precision."""

    name: str
    precision: str
    accuracy: float | None
    open: Callable[[], Runner]
    size_bytes: int = 0
    """Its files."""


class Change(NamedTuple):
    """One time that the precision changed."""

    served: int
    """Requests before it."""
    before: int
    after: int
    took_ms: float
    """That a request waited for it."""
    opened: bool
    """Whether the variant had to be opened for it while the request waited."""


class Served(NamedTuple):
    """What the last request got."""

    rung: int
    start_s: float
    end_s: float


class Statistics(NamedTuple):
    """Of a session so far; lists are in the order of the ladder."""

    current: str
    served: dict[str, int]
    """By precision."""
    missed: int
    errors: int
    """Requests that no variant answered."""
    changes: int
    latency_ms: tuple[int, ...]
    """How many took up to each of BUCKETS_MS, and in the end all others."""
    latency_sum_ms: float
    waiting: int
    resident_bytes: dict[str, int]
    """By precision, of those in memory."""


class AdaptiveRunner:
    """Is called as a runner is; the policy decides before each request which variant answers.

    Requests are served one at a time, in the order in which `infer` was called, from whichever threads. A variant that
    fails is left out from then on, and its request is answered by another; `failures` tells.
    """

    compilation: Compilation | None = None  # each variant's opening is timed whole
    device_bytes: int | None = None

    def __init__(
        self,
        variants: Sequence[Variant],
        policy: Policy,
        *,
        feeds: Feeds,
        deadline_ms: float | None = None,
        hold: int = HOLD,
        floors: Mapping[str, str] | None = None,
        cap_bytes: int | None = None,
        residency: Residency | None = None,
        sampler: Sampler | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """Open every variant and measure its service on `feeds`; keep as many in memory as `cap_bytes` allows.

        `variants` come from the most precise down; one that is not faster than a more precise one is `left_out`.
        `floors` names the least precision of a class of requests. Raises InputError where less than two variants are
        left, BudgetError where the fastest takes longer than the deadline, or one takes more memory than the cap;
        UnknownNameError for a floor or a choice of the policy that is no precision of the ladder.
        """
        if len(variants) < 2:
            found = f"{variants[0].name} alone" if variants else "no variant"
            raise InputError(f"{found} cannot adapt: two precisions are needed: compile with --precision int8")
        if hold < 1:
            raise InputError(f"hold is {hold}: a change binds for one request at least")
        self._clock, self._policy, self.hold, self._sampler = clock, policy, hold, sampler
        openers = tuple(_warm(variant.open, feeds) for variant in variants)
        self._residency = residency or Residency(
            openers, least_bytes=[variant.size_bytes for variant in variants], cap_bytes=cap_bytes, clock=clock
        )
        try:
            self.left_out: dict[str, str] = {}
            self.rungs, self._places = self._ladder_of(variants, feeds)
            self.deadline_ms = deadline_ms if deadline_ms is not None else DEADLINE * self.rungs[0].service_ms
            self._check_deadline(self.rungs[-1])
            self._floors = {name: place(self.rungs, least) for name, least in (floors or {}).items()}
            self._begin()
            for index in reversed(self._places):
                if not self._residency.in_the_way(index):
                    self._residency.open(index)
        except BaseException:
            self.close()
            raise

    def infer(
        self,
        feeds: Feeds,
        request_class: str | None = None,
        *,
        arrived_s: float | None = None,
        waiting: int | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Serve one request. Raises DataError where a name, dtype or shape does not fit.

        A server with a queue of its own says by the session's clock when the request arrived, and how many wait
        behind it; without that, it arrives now, and those wait whose calls do.
        """
        if arrived_s is None:
            arrived_s = self._clock()
        with self._turns:
            start_s = self._clock()
            if waiting is None:
                waiting = len(self._turns)
            self._arrivals.see(arrived_s, start_s, waiting)
            if self._held >= self.hold and len(self._ladder) > 1:
                self._decide(MS * (start_s - arrived_s), waiting)
            index = self._usable[self._at]
            least = self._floors.get(request_class) if request_class is not None else None
            if least is not None and least < index:
                index = self._lifted(least)
            try:
                outputs = self._residency.open(self._places[index]).infer(feeds)
            except Exception as error:  # whatever a runtime raises, another variant may still answer
                index, outputs = self._by_another(index, least, feeds, error)
            end_s = self._clock()
            self._count(index, arrived_s, start_s, end_s)
            return outputs

    def restart(self, policy: Policy, hold: int) -> None:
        """Begin anew with another policy, as if nothing had been served; what was opened and measured is kept."""
        self._policy, self.hold = policy, hold
        self._begin()

    @property
    def statistics(self) -> Statistics:
        """What was counted so far."""
        with self._turns:
            self._bin()
        return Statistics(
            self.rungs[self._usable[self._at]].precision,
            {rung.precision: self._served[i] for i, rung in enumerate(self.rungs)},
            self._missed,
            self._errors,
            len(self.changes),
            tuple(self._histogram.tolist()),
            self._latency_sum_ms,
            len(self._turns),
            self.resident_bytes,
        )

    @property
    def sample(self) -> Sample | None:
        """What was last read of the machine, if it is."""
        return self._sampler.latest if self._sampler is not None else None

    @property
    def resident_bytes(self) -> dict[str, int]:
        """What each variant in memory made this process grow, by precision; at least its files."""
        taken, there = self._residency.takes_bytes, self._residency.places
        return {
            rung.precision: taken[place] for rung, place in zip(self.rungs, self._places, strict=True) if place in there
        }

    @property
    def opening_ms(self) -> dict[str, float]:
        """What it took to open each variant, by precision."""
        found = self._residency.opening_ms
        return {rung.precision: found[place] for rung, place in zip(self.rungs, self._places, strict=True)}

    def evidence(self) -> dict[str, Any]:
        """What the runtime of the variant that serves says it executed."""
        return self._serving.evidence()

    def profile(self, batches: Sequence[Feeds], seconds: float) -> dict[str, Any]:
        """The same with times; see `Runner`."""
        return self._serving.profile(batches, seconds)

    def close(self) -> None:
        """Give all memory back."""
        if self._sampler is not None:
            self._sampler.close()
        self._residency.close_all()

    def __enter__(self) -> AdaptiveRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_deadline(self, fastest: Rung) -> None:
        if fastest.service_ms > self.deadline_ms:
            raise BudgetError(
                f"no variant meets a deadline of {self.deadline_ms:g} ms: the fastest, {fastest.name}, takes"
                f" {fastest.service_ms:.3f} ms by itself: allow more"
            )

    @property
    def _serving(self) -> Runner:
        return self._residency.open(self._places[self._usable[self._at]])

    def _begin(self) -> None:
        """With the rung that the policy wants while nothing waits; what is wrong with the policy shows now."""
        self._turns, self._arrivals = Turns(), Arrivals()
        self._usable = tuple(range(len(self.rungs)))
        self._ladder: Ladder = self.rungs
        self._at = 0  # in the ladder of those that are usable
        self._held = self.hold  # requests since the last change: the first may change
        self.changes: list[Change] = []
        self.failures: list[str] = []
        self.last = Served(0, 0.0, 0.0)
        self._served = [0] * len(self.rungs)
        self._missed = self._errors = 0
        self._histogram = np.zeros(len(BUCKETS_MS) + 1, np.int64)
        self._latencies_ms = array("d")
        self._latency_ms = self._latency_sum_ms = 0.0
        self._slowdown, self._worst, self._stall_ms = 1.0, 1.0, 0.0
        self._opening_ms = self._cost_ms()
        self._at = place(self.rungs, self._policy(self._readings(0.0, 0), self.rungs))
        self._opening_ms = self._cost_ms()
        first = self._serving
        self.inputs, self.input_names, self.output_names = first.inputs, first.input_names, first.output_names

    def _ladder_of(self, variants: Sequence[Variant], feeds: Feeds) -> tuple[tuple[Rung, ...], tuple[int, ...]]:
        """The rungs, each faster than those above it, and their places in memory."""
        services_ms = self._services_ms(len(variants), feeds)
        rungs: list[Rung] = []
        places: list[int] = []
        for i, (variant, service_ms) in enumerate(zip(variants, services_ms, strict=True)):
            if rungs and service_ms > FASTER * rungs[-1].service_ms:
                self.left_out[variant.name] = (
                    f"takes {service_ms:.3f} ms, the more precise {rungs[-1].name} {rungs[-1].service_ms:.3f}"
                )
                self._residency.close(i)
            else:
                rungs.append(Rung(variant.name, variant.precision, service_ms, variant.accuracy))
                places.append(i)
        if len(rungs) < 2:
            told = "; ".join(f"{name} {why}" for name, why in self.left_out.items())
            raise InputError(f"nothing to adapt: no variant is faster than {rungs[0].name}: {told}")
        return tuple(rungs), tuple(places)

    def _services_ms(self, count: int, feeds: Feeds) -> list[float]:
        """Median milliseconds of an inference, by turns where all are in memory at once."""
        found: list[list[float]] = [[] for _ in range(count)]
        for i in range(count):
            found[i] += _timed(self._residency.open(i), feeds, self._clock)
        if len(self._residency.places) == count:
            for _ in range(ROUNDS - 1):
                for i in range(count):
                    found[i] += _timed(self._residency.open(i), feeds, self._clock)
        return [median(times) for times in found]

    def _readings(self, waited_ms: float, waiting: int) -> Readings:
        sample = self.sample
        known = (*sample.condition, sample.watts) if sample is not None else (None, None, None, None, False, None)
        return Readings(
            self._at,
            self.hold,
            waiting,
            waited_ms,
            self.deadline_ms,
            self._latency_ms,
            self._arrivals.per_s,
            self._arrivals.dispersion,
            self._worst,
            self._stall_ms,
            self._opening_ms,
            *known,
        )

    def _decide(self, waited_ms: float, waiting: int) -> None:
        try:
            wanted = place(self._ladder, self._policy(self._readings(waited_ms, waiting), self._ladder))
            if wanted != self._at:
                self._change(wanted)
        except EdgePruneError as error:
            self._without_policy(str(error))
        except Exception as error:  # a policy of the user may raise anything, and no request shall be lost for it
            self._without_policy(f"{type(error).__name__}: {error}")

    def _without_policy(self, why: str) -> None:
        fastest = self.rungs[-1].precision
        self.failures.append(f"the policy failed, so that {fastest} serves from now on: {why}")
        self._policy = lambda readings, ladder: ladder[-1].precision

    def _change(self, wanted: int) -> None:
        """To a rung of the ladder, if it is in memory or its memory can only be had from the one that serves now.

        Otherwise it is opened in another thread while this one serves on.
        """
        begin_s = self._clock()
        index, before = self._usable[wanted], self._usable[self._at]
        at, opened = self._places[index], False
        try:
            if at not in self._residency.places and not self._residency.arrived(at):
                in_the_way = self._residency.in_the_way(at)
                if self._places[before] not in in_the_way:
                    for other in in_the_way:
                        self._residency.close(other)
                    self._residency.fetch(at)
                    return
                opened = True
                self._residency.open(at)
        except EdgePruneError as error:
            self._fail(index, error)
            return
        self._at, self._held = wanted, 0
        if opened:
            self._opening_ms = self._cost_ms()
        took_ms = MS * (self._clock() - begin_s)
        self.changes.append(Change(sum(self._served), before, index, took_ms, opened))

    def _cost_ms(self) -> float:
        """What a request would wait for the slowest variant to open that needs the place of the one that serves."""
        here = self._places[self._usable[self._at]]
        blocked = [place for place in self._places if place != here and not self._residency.fit(place, here)]
        return max((self._residency.opening_ms[place] for place in blocked), default=0.0)

    def _lifted(self, least: int) -> int:
        """The usable rung nearest to a floor, at it or above."""
        above = [index for index in self._usable if index <= least]
        return above[-1] if above else self._usable[0]

    def _by_another(
        self, index: int, least: int | None, feeds: Feeds, error: Exception
    ) -> tuple[int, dict[str, NDArray[Any]]]:
        """The answer of the next best rung, less precise ones first, none below a floor.

        Raises DataError for feeds that do not fit, and `error` where no other can answer either: then it is hardly
        the variant that failed.
        """
        self._errors += 1
        check_feeds(self.inputs, feeds)
        others = [other for other in self._usable if other > index and (least is None or other <= least)]
        others += [other for other in reversed(self._usable) if other < index]
        for other in others:
            try:
                outputs = self._residency.open(self._places[other]).infer(feeds)
            except Exception:  # the next is asked; the first error is raised if none answers
                continue
            self._errors -= 1
            self._fail(index, error)
            return other, outputs
        raise error

    def _fail(self, index: int, error: Exception) -> None:
        """Leave a rung out from now on; what serves next is the one below it, or else the one above."""
        serving = self._usable[self._at]
        self._usable = tuple(one for one in self._usable if one != index)
        self._ladder = tuple(self.rungs[one] for one in self._usable)
        self._residency.close(self._places[index])
        below = [at for at, one in enumerate(self._usable) if one >= serving]
        self._at = below[0] if below else len(self._usable) - 1
        self._held = 0
        rung, left = self.rungs[index], ", ".join(one.name for one in self._ladder)
        go = "serve" if len(self._ladder) > 1 else "serves"
        self.failures.append(f"{rung.name} failed and is left out, {left} {go} on: {type(error).__name__}: {error}")

    def _count(self, index: int, arrived_s: float, start_s: float, end_s: float) -> None:
        latency_ms, service_ms = MS * (end_s - arrived_s), MS * (end_s - start_s)
        self._held += 1
        self._served[index] += 1
        self._missed += latency_ms > self.deadline_ms
        self._latencies_ms.append(latency_ms)
        if len(self._latencies_ms) >= BUFFER:
            self._bin()
        self._latency_ms += RECENT * (latency_ms - self._latency_ms)
        usual_ms = self.rungs[index].service_ms
        self._stall_ms = max(service_ms - self._slowdown * usual_ms, FORGET * self._stall_ms)
        self._slowdown += RECENT * (min(OUTLIER, service_ms / usual_ms) - self._slowdown)
        self._worst = max(self._slowdown, FORGET * self._worst)
        self.last = Served(index, start_s, end_s)

    def _bin(self) -> None:
        """Move latencies into the histogram, many at once: after an inference its buckets lie in no cache."""
        kept, self._latencies_ms = self._latencies_ms, array("d")
        self._histogram += np.bincount(np.searchsorted(BUCKETS_MS, kept), minlength=len(self._histogram))
        self._latency_sum_ms += sum(kept)


def _warm(opened: Callable[[], Runner], feeds: Feeds) -> Callable[[], Runner]:
    """A runner that has run once: what a first inference allocates and prepares shall not befall a request."""

    def open_and_run() -> Runner:
        runner = opened()
        runner.infer(feeds)
        return runner

    return open_and_run


def _timed(runner: Runner, feeds: Feeds, clock: Callable[[], float]) -> list[float]:
    return time_runs(
        lambda: runner.infer(feeds), seconds=ROUND_S, least=LEAST, most=MOST, clock_ns=lambda: round(1e9 * clock())
    )
