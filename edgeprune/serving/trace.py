"""When requests arrive: a trace from a file, or one that is generated for the speed of a ladder."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import DataError
from edgeprune.registry import unknown
from edgeprune.whole_file import whole

CLUMP = 3.0
"""Requests that come at once in a burst, on average."""
CALM = 0.5
"""Of what the most precise rung can serve."""
MOST = 20_000
"""Requests in a phase: more tell no more."""
STEPS = 40
"""In which a diurnal rate is drawn."""


@dataclass(frozen=True)
class Trace:
    """Requests in the order in which they arrive."""

    name: str
    arrivals_s: NDArray[np.float64]
    """[N], from the begin of the trace, never falling."""
    classes: tuple[str, ...] = ()
    """Of each request; empty where there are none."""
    phases_s: tuple[float, ...] = (0.0,)
    """When each phase begins."""

    def __post_init__(self) -> None:
        """Raises DataError for a trace without requests, and naming the first time that is no time or goes back."""
        times = self.arrivals_s
        if not len(times):
            raise DataError(f"{self.name}: the trace holds no request")
        if len(bad := np.flatnonzero(~np.isfinite(times) | (times < 0))):
            raise DataError(f"{self.name}: request {bad[0] + 1} arrives at {times[bad[0]]:g} s: times are 0 or more")
        if len(bad := np.flatnonzero(np.diff(times) < 0)):
            late, early = times[bad[0]], times[bad[0] + 1]
            raise DataError(
                f"{self.name}: request {bad[0] + 2} arrives at {early:g} s, before the one at {late:g} s: sort it"
            )

    @property
    def seconds(self) -> float:
        """Until the last request arrives."""
        return float(self.arrivals_s[-1])


def read_trace(path: Path) -> Trace:
    """A CSV file with the column `arrival_s`, and `class` where requests have one. Raises DataError with the line."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            if "arrival_s" not in (rows.fieldnames or ()):
                raise DataError(f"{path}: no column arrival_s; its first line is {','.join(rows.fieldnames or ())!r}")
            found = [(_seconds(path, rows.line_num, row["arrival_s"]), row.get("class") or "") for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {getattr(error, 'strerror', None) or error}") from error
    classes = tuple(name for _, name in found)
    return Trace(str(path), np.array([at for at, _ in found]), classes if any(classes) else ())


def write_trace(trace: Trace, path: Path) -> None:
    """As `read_trace` reads it; the file appears whole or not at all."""
    with whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("arrival_s", "class"))
        classes = trace.classes or ("",) * len(trace.arrivals_s)
        rows.writerows(zip(map(repr, trace.arrivals_s.tolist()), classes, strict=True))


def _seconds(path: Path, line: int, text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError as error:
        raise DataError(f"{path}: line {line}: {text!r} is no time in seconds") from error


@dataclass(frozen=True)
class Capacity:
    """Requests per second that a ladder can serve, all with its most precise and all with its fastest rung."""

    precise: float
    fastest: float

    def between(self, share: float) -> float:
        """More than the first, less than the second: 0 is the one, 1 the other, evenly in ratios."""
        return self.precise * float((self.fastest / self.precise) ** share)


def steady(capacity: Capacity, phase_s: float, random: np.random.Generator) -> Trace:
    """A load that the most precise rung cannot bear."""
    return _joined("steady", random, phase_s, [(1.0, capacity.between(0.3), 1.0)])


def step(capacity: Capacity, phase_s: float, random: np.random.Generator) -> Trace:
    """Calm, then overload."""
    phases = [(1.0, CALM * capacity.precise, 1.0), (1.0, capacity.between(0.5), 1.0)]
    return _joined("step", random, phase_s, phases)


def diurnal(capacity: Capacity, phase_s: float, random: np.random.Generator) -> Trace:
    """One wave over two phases, from a third of what the most precise rung can serve to well above it."""
    low, peak = capacity.precise / 3, capacity.between(0.6)
    shares = [0.5 - 0.5 * math.cos(2 * math.pi * (i + 0.5) / STEPS) for i in range(STEPS)]
    rates = [(2 / STEPS, low + share * (peak - low), 1.0) for share in shares]
    made = _joined("diurnal", random, phase_s, rates)
    return Trace(made.name, made.arrivals_s, phases_s=(0.0, phase_s))


def bursty(capacity: Capacity, phase_s: float, random: np.random.Generator) -> Trace:
    """Calm between two bursts, in which requests come in clumps of CLUMP on average."""
    burst = (1.0, capacity.between(0.3), CLUMP)
    return _joined("bursty", random, phase_s, [burst, (1.0, CALM * capacity.precise, 1.0), burst])


GENERATED: dict[str, Callable[[Capacity, float, np.random.Generator], Trace]] = {
    "steady": steady,
    "step": step,
    "diurnal": diurnal,
    "bursty": bursty,
}


def generate(kind: str, capacity: Capacity, *, phase_s: float, seed: int) -> Trace:
    """A trace of that kind, with phases of so many seconds, or of MOST requests. Raises UnknownNameError."""
    if kind not in GENERATED:
        raise unknown("trace", kind, GENERATED)
    return GENERATED[kind](capacity, min(phase_s, MOST / capacity.fastest), np.random.default_rng(seed))


def _joined(name: str, random: np.random.Generator, phase_s: float, phases: list[tuple[float, float, float]]) -> Trace:
    """Phases one after the other, each (length in phases, requests per second, clump)."""
    begin_s, begins, parts = 0.0, [], []
    for length, per_s, clump in phases:
        begins.append(begin_s)
        parts.append(begin_s + _poisson(random, per_s, length * phase_s, clump))
        begin_s += length * phase_s
    return Trace(name, np.concatenate(parts), phases_s=tuple(begins))


def _poisson(random: np.random.Generator, per_s: float, seconds: float, clump: float) -> NDArray[np.float64]:
    """A Poisson process; with a clump above 1 a compound one, whose sizes are geometric with that mean."""
    events = random.poisson(per_s * seconds / clump)
    times = np.sort(random.uniform(0.0, seconds, events))
    return np.repeat(times, random.geometric(1 / clump, events)) if clump > 1 else times
