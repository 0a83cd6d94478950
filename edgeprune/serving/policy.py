"""Which precision serves the next request: pure functions of what is read.

A policy is `(readings, ladder) -> precision`. It is asked when a change is allowed, so it need not count; whatever it
wants, a session changes at most once in `readings.hold` requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, log, sqrt
from statistics import NormalDist
from typing import NamedTuple

from edgeprune.errors import ConfigError
from edgeprune.registry import unknown

MS = 1e3


class Rung(NamedTuple):
    """One variant of a ladder, which holds the most precise first and each other one faster than all above it."""

    name: str
    """The variant's."""
    precision: str
    service_ms: float
    """Of one request, as this session measured it when it opened."""
    accuracy: float | None = None
    """On the same samples and scale for all of a ladder; None where nothing can be said."""


Ladder = Sequence[Rung]


class Readings(NamedTuple):
    """What a session knows when it decides. What no sensor here tells is None."""

    current: int
    """The rung that served last, as a place in the ladder."""
    hold: int
    """Requests for which a change binds."""
    waiting: int
    """Requests that stand behind this one."""
    waited_ms: float
    """By this one, so far."""
    deadline_ms: float
    """From a request's arrival to its answer."""
    latency_ms: float = 0.0
    """Recent mean, arrival to answer."""
    arrivals_per_s: float = 0.0
    """Recently."""
    dispersion: float = 1.0
    """Variance over mean of how many arrive: 1 for a Poisson process, more where they come in clumps."""
    slowdown: float = 1.0
    """What inferences take over the ladder's `service_ms`, at worst lately: above 1 where others use the processor."""
    stall_ms: float = 0.0
    """By how much an inference lately took longer than usual, at most: an interrupt, or others at work."""
    opening_ms: float = 0.0
    """What a change would have to wait for a variant that is not in memory."""
    cpu: float | None = None
    """Share of all cores' time that was used, by anyone."""
    gpu: float | None = None
    headroom_bytes: int | None = None
    """Memory that is still to be had."""
    temperature_c: float | None = None
    throttled: bool = False
    """Whether the machine slows itself down for heat or power."""
    watts: float | None = None


Policy = Callable[[Readings, Ladder], str]


def place(ladder: Ladder, precision: str) -> int:
    """Where a precision stands. Raises UnknownNameError with the nearest."""
    for index, rung in enumerate(ladder):
        if rung.precision == precision:
            return index
    raise unknown("precision of this ladder", str(precision), [rung.precision for rung in ladder])


def fixed(precision: str) -> Policy:
    """Always that precision."""
    return lambda readings, ladder: precision


class Band(NamedTuple):
    """A pressure with its hysteresis: one precision down above `high`, and up only where all are below `low`."""

    name: str
    pressure: Callable[[Readings, Ladder], float | None]
    high: float
    low: float


BANDS = (
    Band("latency over deadline", lambda r, _: r.latency_ms / r.deadline_ms, 0.5, 0.25),
    Band("queue over deadline", lambda r, ladder: _backlog_ms(r, ladder[0]) / r.deadline_ms, 0.5, 0.1),
    Band("temperature", lambda r, _: r.temperature_c, 90.0, 80.0),
    Band("throttled", lambda r, _: float(r.throttled), 0.5, 0.5),
    Band("memory used", lambda r, _: None if r.headroom_bytes is None else -r.headroom_bytes / 1e6, -64.0, -256.0),
)
"""Of the threshold policy. Use of the processor says little by itself: a server at work uses it all."""


def threshold(bands: Sequence[Band] = BANDS) -> Policy:
    """One rung down where a pressure is above its band, one up where all are below theirs."""

    def policy(readings: Readings, ladder: Ladder) -> str:
        found = [(band, value) for band in bands if (value := band.pressure(readings, ladder)) is not None]
        index = readings.current
        if any(value > band.high for band, value in found):
            index = min(index + 1, len(ladder) - 1)
        elif all(value < band.low for band, value in found):
            index = max(index - 1, 0)
        return ladder[index].precision

    return policy


@dataclass(frozen=True)
class Limits:
    """What a machine shall not pass; above, only the fastest precision serves, until it is 5 % below again."""

    temperature_c: float = inf
    watts: float = inf
    headroom_bytes: int = 0
    throttling: bool = False
    """Whether throttling is borne."""

    def passed(self, readings: Readings, *, eased: bool) -> bool:
        """Whether one is; `eased`: the fastest serves already, so that a way back must be earned."""
        share = 0.95 if eased else 1.0
        return (
            (readings.throttled and not self.throttling)
            or (readings.temperature_c or 0.0) > share * self.temperature_c
            or (readings.watts or 0.0) > share * self.watts
            or (readings.headroom_bytes is not None and readings.headroom_bytes < self.headroom_bytes / share)
        )


def most_accurate(*, risk: float = 0.05, margin: float = 0.1, limits: Limits = Limits()) -> Policy:
    """The most precise rung with which, as far as can be foreseen, no request misses its deadline.

    A change binds for `hold` requests, so a rung is taken only where the latency that it leads to until then, and while
    the fastest then clears what has queued, stays below `1 - margin` of the deadline. The rung that serves already
    need only bear one more request: it is left at the last moment that is safe. `peak_ms` and `slack_ms` have the
    formulas, which may fail with probability `risk`; another stall as long as the last may come at any time.
    """
    sigmas, logarithm = NormalDist().inv_cdf(1 - risk), -log(risk)

    def policy(readings: Readings, ladder: Ladder) -> str:
        fastest, current = len(ladder) - 1, readings.current
        if not limits.passed(readings, eased=current == fastest):
            chance_ms = readings.stall_ms + logarithm * slack_ms(readings, ladder)
            allowed_ms = (1 - margin) * readings.deadline_ms - chance_ms
            for index in range(fastest):
                hold = 1 if index == current else readings.hold
                if peak_ms(readings, ladder, index, hold, sigmas) <= allowed_ms:
                    return ladder[index].precision
        return ladder[fastest].precision

    return policy


def peak_ms(readings: Readings, ladder: Ladder, index: int, hold: int, sigmas: float) -> float:
    """The longest latency that is foreseen if rung `index` serves `hold` requests and the fastest all that follow.

    With q requests waiting behind the first, which has waited w; s and f milliseconds of service; arrivals every g:
    request k ends after min(k, h) s + max(0, k - h) f. It came w (1 - (k - 1) / (q + 1)) ago where it is queued
    already, else it will come in (k - q - 1) g, or sqrt(c (k - q - 1)) g per standard deviation earlier, where c is the
    dispersion. That is linear between k = 1, h and q + 1, so the longest is at one of them.
    """
    slow_ms = readings.slowdown * ladder[index].service_ms
    queued = readings.waiting + 1
    first_ms = readings.waited_ms + readings.opening_ms + slow_ms
    newest_ms = readings.waited_ms / queued
    held_ms = readings.opening_ms + hold * slow_ms
    if hold < queued:
        age_ms = readings.waited_ms * (1 - (hold - 1) / queued)
        clearing_ms = (queued - hold) * readings.slowdown * ladder[-1].service_ms
        return max(first_ms, held_ms + age_ms, held_ms + clearing_ms + newest_ms)
    to_come = hold - queued
    early = sigmas * sqrt(readings.dispersion * to_come)
    gap_ms = MS / readings.arrivals_per_s if readings.arrivals_per_s > 0 else inf
    last_ms = held_ms - (to_come - early) * gap_ms if to_come > early else held_ms
    return max(first_ms, readings.opening_ms + queued * slow_ms + newest_ms, last_ms)


def slack_ms(readings: Readings, ladder: Ladder) -> float:
    """How much a backlog grows by chance before the fastest rung clears it: so much, or more, once in e times.

    In heavy traffic a backlog under load r, with f milliseconds of service each, is a Brownian motion with drift
    -(1 - r) and variance c r f, c being the dispersion, which ever rises by x with probability
    exp(-2 (1 - r) x / (c r f)) (Kingman, The heavy traffic approximation in the theory of queues, 1965). Without end
    where even the fastest cannot keep up.
    """
    fast_ms = readings.slowdown * ladder[-1].service_ms
    load = readings.arrivals_per_s * fast_ms / MS
    return readings.dispersion * load * fast_ms / (2 * (1 - load)) if load < 1 else inf


def _backlog_ms(readings: Readings, rung: Rung) -> float:
    return readings.waited_ms + readings.waiting * readings.slowdown * rung.service_ms


POLICIES: dict[str, Callable[[], Policy]] = {"accuracy": most_accurate, "threshold": threshold}
"""By the name they have on the command line; beside them `fixed:<precision>` and `file.py:function`."""


def named(name: str) -> Policy:
    """A policy of ours by its name. Raises ConfigError, UnknownNameError."""
    kind, _, precision = name.partition(":")
    if kind == "fixed":
        if not precision:
            raise ConfigError("policy 'fixed' needs a precision: fixed:int8")
        return fixed(precision)
    if name not in POLICIES:
        raise unknown("policy", name, [*POLICIES, "fixed:<precision>", "file.py:function"])
    return POLICIES[name]()
