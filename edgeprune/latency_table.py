"""What each operator takes on one machine: measured, kept as CSV, and interpolated for shapes that nobody measured."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import CorruptError, InputError
from edgeprune.roofline import Limit, Part, Peaks, limit
from edgeprune.whole_file import whole

SCHEMA = 1
FILE = "latency.csv"
COLUMNS = (
    *("schema", "target", "machine", "environment", "runtime", "operator", "shapes", "precision"),
    *("ms", "macs", "bytes", "channels", "network_bytes", "source", "measured_at"),
)
NEIGHBOURS = 4
"""Of which each interpolated time is made."""
GROWTHS = (0.0, *np.geomspace(1e-10, 1e-4, 241))
"""By how much of itself an operator's time may grow with each byte of its network."""
KNOWN_GROWTH = 2
"""It is taken to go on up to so many times the largest network that was measured, and no further."""


class Key(NamedTuple):
    """What has a time of its own."""

    runtime: str
    operator: str
    """With what runs along with it: `Conv 3x3/2 + Relu`."""
    shapes: str
    """`1x16x32x32 > 1x32x16x16`."""
    precision: str


class Work(NamedTuple):
    """How much an operator does."""

    macs: int
    bytes: int
    """Of its input, its weights and its output."""
    channels: int
    """Of its output."""


@dataclass(frozen=True)
class Entry:
    """A time that was measured in one network."""

    key: Key
    source: str
    """The bundle and the variant: measured again, they replace it."""
    ms: float
    """0 where it ran inside another."""
    work: Work
    network_bytes: int
    """Of all weights there: the more, the less of them is still in the cache when the next inference begins."""
    measured_at: str
    """UTC, ISO 8601."""


@dataclass(frozen=True)
class Prediction:
    """What a model would take."""

    ms: float | None
    """None where nothing is known of an operator."""
    interpolated: float
    """Share of the time that is interpolated; the rest was measured in these very shapes."""
    unknown: tuple[str, ...]
    """Operators of which nothing is known, each once."""


class Found(NamedTuple):
    """The answer to a look-up."""

    ms: float
    interpolated: bool
    """Whether these shapes, or all that runs along, were not measured themselves."""


@dataclass(frozen=True)
class Timed:
    """A distinct operator of one variant."""

    key: Key
    count: int
    """How often it stands in the network."""
    ms: float
    """Of one of them, on average."""
    work: Work
    weight_bytes: int = 0
    """Of `work`'s, those of its weights."""

    @property
    def gops(self) -> float:
        """Achieved, in 1e9 operations a second, two for each multiply-accumulate."""
        return 2 * self.work.macs / (self.ms * 1e6) if self.ms else 0.0


@dataclass(frozen=True)
class TimedVariant:
    """A variant, operator by operator."""

    name: str
    ms: float | None
    """Of a whole inference; None where it cannot run here."""
    operators: tuple[Timed, ...]
    """Distinct; with their counts they take `ms`."""
    network_bytes: int = 0
    """Of all weights, as its kernels read them."""
    unmeasured: str = ""
    """Why it cannot; empty where it was measured."""

    def limits(self, peaks: Peaks) -> tuple[Limit, ...]:
        """What each operator would take at the peaks of the machine."""
        parts = [
            Part(2 * one.work.macs, one.weight_bytes, one.work.bytes - one.weight_bytes, one.key.precision)
            for one in self.operators
        ]
        return tuple(limit([part], peaks, self.network_bytes) for part in parts)

    def foretold(self, table: LatencyTable) -> Prediction:
        """What a table says that it takes."""
        return table.predict(((one.key, one.work, one.count) for one in self.operators), self.network_bytes)


class Growth(NamedTuple):
    """What an operator takes more of, the larger its network: less of it is still in the cache."""

    rate: float
    """For each byte of the network's weights, as a share of what it takes in a network of none."""
    known_bytes: int
    """Up to where that was seen to hold, or nearly so."""

    @classmethod
    def fitted(cls, alike: Sequence[Sequence[Entry]]) -> Growth:
        """The least squares of log t - log(1 + g B) about each operator's own mean; what takes long counts more."""
        several = [entries for entries in alike if len({one.network_bytes for one in entries}) > 1]
        known = KNOWN_GROWTH * max((one.network_bytes for entries in alike for one in entries), default=0)
        if not several:
            return cls(0.0, known)
        errors = np.zeros(len(GROWTHS))
        for entries in several:
            ms = np.array([one.ms for one in entries])
            sizes = np.array([one.network_bytes for one in entries], np.float64)
            left = np.log(ms) - np.log1p(np.multiply.outer(GROWTHS, sizes))
            errors += ms.mean() * np.sum((left - left.mean(axis=1, keepdims=True)) ** 2, axis=1)
        return cls(float(GROWTHS[int(errors.argmin())]), known)

    def factor(self, network_bytes: int) -> float:
        """Of the time in a network without weights."""
        return 1 + self.rate * min(network_bytes, self.known_bytes)


@dataclass(frozen=True)
class LatencyTable:
    """Times of one machine; those of two are never in one table."""

    target: str
    machine: str
    """The processor's name."""
    environment: str
    """Fingerprint of the machine and its versions."""
    entries: tuple[Entry, ...]

    def lookup(self, key: Key, work: Work, network_bytes: int) -> Found | None:
        """What was measured, or else is interpolated; None where nothing of the kind was measured.

        t(x) = base(x) sum_i w_i (1 + g B) / (1 + g B_i) t_i / base(x_i), sum_i w_i = 1, w_i ~ 1 / |x - x_i|^2

        over the nearest x_i in (log MACs, log bytes, log channels), or all of these very shapes. B is `network_bytes`,
        and g what operators were seen to take more in larger networks. `base` is fitted to all operators that compute
        alike, whatever runs along with them; so are the neighbours where just that was not measured.
        """
        growth = self._growths.get((key.runtime, key.precision), Growth(0.0, 0))
        family = self._families.get(_family(key), [])
        same = [one for one in family if one.key == key]
        if same:
            return Found(float(np.mean(_grown(same, growth, network_bytes))), interpolated=False)
        if not family:
            return None
        base = _Base.fitted(*_timed(family, _grown(family, growth, network_bytes)))
        alike = [one for one in family if one.key.operator == key.operator] or family
        return Found(_interpolated(base, alike, _grown(alike, growth, network_bytes), work), interpolated=True)

    @cached_property
    def _families(self) -> dict[Key, list[Entry]]:
        """The entries that compute alike."""
        found: dict[Key, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(_family(entry.key), []).append(entry)
        return found

    @cached_property
    def _growths(self) -> dict[tuple[str, str], Growth]:
        """By runtime and precision, from operators that stand in networks of different sizes."""
        found: dict[tuple[str, str], dict[Key, list[Entry]]] = {}
        for entry in self.entries:
            if entry.ms:
                found.setdefault((entry.key.runtime, entry.key.precision), {}).setdefault(entry.key, []).append(entry)
        return {of: Growth.fitted(list(alike.values())) for of, alike in found.items()}

    def predict(self, operators: Iterable[tuple[Key, Work, int]], network_bytes: int) -> Prediction:
        """What these operators of one network take one after another, each so many times."""
        known, interpolated = 0.0, 0.0
        unknown: dict[str, None] = {}
        for key, work, count in operators:
            found = self.lookup(key, work, network_bytes)
            if found is None:
                unknown[f"{key.operator} in {key.precision}"] = None
            else:
                known += count * found.ms
                interpolated += count * found.ms * found.interpolated
        return Prediction(None if unknown else known, interpolated / known if known else 0.0, tuple(unknown))

    def merged(self, newer: LatencyTable) -> LatencyTable:
        """Both; what stands in both is taken from `newer`. Raises InputError where they are of unlike environments."""
        if (self.target, self.environment) != (newer.target, newer.environment):
            raise InputError(
                f"times of {self.target} on {self.machine} ({self.environment}) and of {newer.target} on"
                f" {newer.machine} ({newer.environment}) cannot be in one table: measure all of it in one environment"
            )
        every = {(entry.source, entry.key): entry for entry in (*self.entries, *newer.entries)}
        return LatencyTable(self.target, self.machine, self.environment, tuple(every.values()))


def read_table(path: Path) -> LatencyTable:
    """Read a table. Raises CorruptError where it is none of a schema this version knows, or mixes environments."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorruptError(f"{path}: not a latency table ({type(error).__name__}): measure again") from error
    if not rows:
        raise CorruptError(f"{path}: holds no times: measure with `edgeprune bench BUNDLE --operators`")
    if schemas := {row.get("schema") for row in rows} - {str(SCHEMA)}:
        told = ", ".join(sorted(map(repr, schemas)))
        raise CorruptError(f"{path}: schema {told}, this version reads {SCHEMA}: remove it and measure again")
    try:
        entries = tuple(_entry(row) for row in rows)
        of = {(row["target"], row["machine"], row["environment"]) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"{path}: damaged ({type(error).__name__}): remove it and measure again") from error
    if len(of) > 1:
        raise CorruptError(f"{path}: mixes times of {len(of)} environments: remove it and measure again")
    return LatencyTable(*of.pop(), entries)


def write_table(table: LatencyTable, path: Path) -> None:
    """Write a table as CSV; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        of = (SCHEMA, table.target, table.machine, table.environment)
        for one in sorted(table.entries, key=lambda one: (one.key, one.source)):
            told = (f"{one.ms:.6g}", *one.work, one.network_bytes, one.source, one.measured_at)
            writer.writerow((*of, *one.key, *told))


def _entry(row: Mapping[str, str]) -> Entry:
    key = Key(row["runtime"], row["operator"], row["shapes"], row["precision"])
    work = Work(int(row["macs"]), int(row["bytes"]), int(row["channels"]))
    ms = float(row["ms"])
    if not 0 <= ms < float("inf"):
        raise ValueError(ms)
    return Entry(key, row["source"], ms, work, int(row["network_bytes"]), row["measured_at"])


def _family(key: Key) -> Key:
    """What computes alike: an operator without its stride, its shapes and what runs along."""
    return key._replace(operator=key.operator.partition(" + ")[0].replace("/2", ""), shapes="")


def _grown(entries: Sequence[Entry], growth: Growth, network_bytes: int) -> list[float]:
    """Their times in a network of so many bytes."""
    there = growth.factor(network_bytes)
    return [one.ms * there / growth.factor(one.network_bytes) for one in entries]


def _timed(entries: Sequence[Entry], ms: Sequence[float]) -> tuple[list[Work], list[float]]:
    """Those that took any time: what ran inside another took none."""
    found = [(entry.work, one) for entry, one in zip(entries, ms, strict=True) if one > 0]
    return [work for work, _ in found], [one for _, one in found]


@dataclass(frozen=True)
class _Base:
    """t = c0 + c1 MACs + c2 bytes, no coefficient negative: a start, and what arithmetic and memory take."""

    coefficients: NDArray[np.float64]

    @classmethod
    def fitted(cls, works: Sequence[Work], ms: Sequence[float]) -> _Base:
        """The least sum of squared relative errors, over every set of terms that can be positive together."""
        terms, best, least = _terms(works) / np.array(ms)[:, np.newaxis], np.zeros(3), np.inf
        for size in (1, 2, 3):
            for chosen in itertools.combinations(range(3), size):
                if size > len(ms):
                    continue
                scale = np.maximum(np.abs(terms[:, chosen]).max(axis=0), 1e-30)
                found = np.linalg.lstsq(terms[:, chosen] / scale, np.ones(len(ms)), rcond=None)[0] / scale
                error = float(np.sum((terms[:, chosen] @ found - 1) ** 2))
                if found.min() >= 0 and found.max() > 0 and error < least * 0.99:
                    least, best = error, np.zeros(3)
                    best[list(chosen)] = found
        return cls(best)

    def ms(self, works: Sequence[Work]) -> NDArray[np.float64]:
        """The time of each, [N]."""
        return np.maximum(_terms(works) @ self.coefficients, 1e-9)


def _terms(works: Sequence[Work]) -> NDArray[np.float64]:
    return np.array([(1.0, work.macs, work.bytes) for work in works], np.float64)


def _interpolated(base: _Base, alike: Sequence[Entry], ms: Sequence[float], work: Work) -> float:
    places = _place([one.work for one in alike])
    distances = np.linalg.norm(places - _place([work]), axis=1)
    near = np.argsort(distances, kind="stable")[:NEIGHBOURS]
    weights = 1 / (distances[near] ** 2 + 1e-6)
    ratios = np.array(ms)[near] / base.ms([alike[i].work for i in near])
    return float(base.ms([work])[0] * (weights @ ratios) / weights.sum())


def _place(works: Sequence[Work]) -> NDArray[np.float64]:
    """[N, 3]: log MACs, log bytes, log channels."""
    return np.log(np.array(works, np.float64) + 1)
