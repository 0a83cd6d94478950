"""Serve a bundle: which of its variants make the ladder, and how policies fare over a trace beside fixed precisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np

from edgeprune.backends import LOAD
from edgeprune.backends.backend import Feeds
from edgeprune.bundle import Bundle
from edgeprune.bundle import Variant as Files
from edgeprune.errors import InputError, MissingError
from edgeprune.meters.meter import detect
from edgeprune.progress import SILENT, Progress
from edgeprune.recipe import read_yaml
from edgeprune.registry import resolve, unknown
from edgeprune.report.contents import measured_of
from edgeprune.results import MB, Accuracy, Measured, Measurement
from edgeprune.serving import oracle
from edgeprune.serving.contention import Contention
from edgeprune.serving.policy import Policy, fixed, named
from edgeprune.serving.replay import Outputs, Replayed, replay
from edgeprune.serving.sampler import Sampler
from edgeprune.serving.session import HOLD, AdaptiveRunner, Variant
from edgeprune.serving.trace import Capacity, Trace
from edgeprune.targets.target import Target
from edgeprune.user_code import UserFunction, load_function

FLOAT_BITS = {"fp32": 32.0, "fp16": 16.0, "bf16": 15.0}
"""bfloat16 has the bits of float16, fewer of them in its mantissa."""
SAMPLES = "samples.npz"
MS = 1e3
CROWD_S, LEAST_CROWD, MOST_CROWD = 0.5, 20, 2000
"""How long capacity is measured, and with how many requests."""


@dataclass(frozen=True)
class Candidate:
    """A variant that could be a rung."""

    files: Files
    measured: Measurement

    @property
    def bits(self) -> float:
        """Of a weight, on average over the layers."""
        usual = FLOAT_BITS.get(self.files.precision)
        return usual or fmean(layer.weight_bits for layer in self.files.layers)

    @property
    def accuracy(self) -> Accuracy | None:
        """By the task's first metric, on the split that reports, else on the one that selects."""
        found = {one.split: one for one in reversed(self.measured.accuracy)}
        return found.get("report") or found.get("select")

    @property
    def lost(self) -> float:
        """Of accuracy, against the baseline."""
        return self.accuracy.drop.estimate if self.accuracy and self.accuracy.drop else 0.0


def ladder(
    bundle: Bundle, measured: Measured, precisions: Sequence[str] = ()
) -> tuple[tuple[Candidate, ...], dict[str, str]]:
    """Per precision the variant that was measured the fastest, the most precise first; and why others are left out.

    A more precise one stays although a faster one was measured to be as accurate: that is chance as long as the
    interval of what is lost holds 0. Where the faster one is more accurate for certain, nothing is gained by the other.
    `precisions` limits the choice. Raises UnknownNameError for one that the bundle has not.
    """
    found = {one.variant: one for one in (measured.baseline, *measured.measurements)}
    every = [one for one in (bundle.core.baseline, *bundle.core.variants) if one.name != "baseline"]
    for precision in precisions:
        if precision not in {one.precision for one in every}:
            raise unknown(f"precision of {bundle.root}", precision, {one.precision for one in every})
    out: dict[str, str] = {}
    fastest: dict[str, Candidate] = {}
    for files in every:
        if precisions and files.precision not in precisions:
            continue
        record = found.get(files.name)
        if files.backend not in LOAD or record is None or record.percentile_ms(50) is None:
            out[files.name] = f"has no latency here ({record.unmeasured if record else 'not measured'})"
            continue
        one = Candidate(files, record)
        other = fastest.setdefault(files.precision, one)
        if other is not one:
            quick, slow = sorted((one, other), key=_p50)
            fastest[files.precision] = quick
            out[slow.files.name] = f"is slower than {quick.files.name}"
    ordered = sorted(fastest.values(), key=lambda one: -one.bits)
    kept = []
    for i, one in enumerate(ordered):
        better = next((other for other in ordered[i + 1 :] if _surely_better(other, one)), None)
        if better is None:
            kept.append(one)
        else:
            out[one.files.name] = f"is less accurate than {better.files.name}, which is faster"
    return tuple(kept), out


def _p50(one: Candidate) -> float:
    return one.measured.percentile_ms(50) or 0.0


def _surely_better(fast: Candidate, precise: Candidate) -> bool:
    drop = fast.accuracy.drop if fast.accuracy else None
    return drop is not None and drop.high < precise.lost and _p50(fast) < _p50(precise)


def open_session(
    bundle: Bundle,
    policy: Policy,
    *,
    precisions: Sequence[str] = (),
    deadline_ms: float | None = None,
    hold: int = HOLD,
    floors: Mapping[str, str] | None = None,
    memory_mb: float | None = None,
    threads: int = 1,
    batch: int = 1,
    sampler: Sampler | None = None,
) -> AdaptiveRunner:
    """A runner over the ladder of a bundle; see `AdaptiveRunner`.

    Raises InputError where the bundle was not measured, or less than two of its variants are of use.
    """
    try:
        chosen, out = _chosen(bundle, precisions)
        session = AdaptiveRunner(
            [_variant(bundle, one, threads, batch) for one in chosen],
            policy,
            feeds=inputs(bundle, batch)[0],
            deadline_ms=deadline_ms,
            hold=hold,
            floors=floors,
            cap_bytes=None if memory_mb is None else round(memory_mb * MB),
            sampler=sampler,
        )
    except BaseException:
        if sampler is not None:
            sampler.close()
        raise
    session.left_out = out | session.left_out
    if isinstance(policy, UserFunction):  # it gave an answer once; its guard would cost more than an inference
        session.restart(policy.function, hold)
    return session


def _chosen(bundle: Bundle, precisions: Sequence[str]) -> tuple[tuple[Candidate, ...], dict[str, str]]:
    if (measured := measured_of(bundle)) is None:
        raise InputError(f"{bundle.root}: not measured yet: run `edgeprune bench {bundle.root}`")
    chosen, out = ladder(bundle, measured, precisions)
    if len(chosen) < 2:
        why = "".join(f"; {name} {reason}" for name, reason in out.items())
        have = chosen[0].files.name if chosen else "none"
        raise InputError(
            f"{bundle.root}: two variants of different precision are needed to adapt, {have} can be used{why}"
        )
    return chosen, out


def _variant(bundle: Bundle, one: Candidate, threads: int, batch: int) -> Variant:
    load = resolve(LOAD, one.files.backend, "runtime")  # imported now: what a runtime takes is no variant's
    opened = partial(load, bundle.files(one.files), one.files.options, threads=threads, batch=batch)
    accuracy = one.accuracy.value.estimate if one.accuracy else None
    return Variant(one.files.name, one.files.precision, accuracy, opened, bundle.size_bytes(one.files))


def sampler_of(bundle: Bundle) -> tuple[Sampler, str]:
    """What reads this machine, with the power meter of the target; and the name of that, or why there is none."""
    try:
        meter = detect(read_yaml(bundle.root / "target.yaml", Target).meters)
    except MissingError as error:
        return Sampler(), f"unavailable: {error}"
    return Sampler(meter=meter), meter.sensor


def policy_named(name: str) -> Policy:
    """A policy of ours by its name, or the user's, `file.py:function`. Raises ModelError, UnknownNameError."""
    return load_function(name, "policy") if ".py:" in name else named(name)


def inputs(bundle: Bundle, batch: int = 1) -> list[Feeds]:
    """The bundle's own samples, `batch` in each."""
    names = [spec.name for spec in bundle.core.inputs]
    with np.load(bundle.root / SAMPLES, allow_pickle=False) as file:
        arrays = {name: file[name] for name in names}
    count = min(len(array) for array in arrays.values())
    rows = [np.arange(start, start + batch) % count for start in range(0, count, batch)]
    return [{name: array[row] for name, array in arrays.items()} for row in rows]


def capacity(session: AdaptiveRunner, feeds: Sequence[Feeds]) -> Capacity:
    """What a replay gets through in a second with each end of the ladder, all requests being there from the begin."""
    found = []
    for rung in (session.rungs[0], session.rungs[-1]):
        session.restart(fixed(rung.precision), 1)
        count = min(MOST_CROWD, max(LEAST_CROWD, round(CROWD_S * MS / rung.service_ms)))
        run = replay(Trace("crowd", np.zeros(count)), session, feeds)
        found.append(count / float(run.end_s[-1]))
    return Capacity(*found)


def added_bytes(bundle: Bundle, session: AdaptiveRunner) -> dict[str, float]:
    """What each rung below the first adds on disk, over the bytes of the first: by precision; a shared file adds 0."""
    core = bundle.core
    hashes = [{core.sha256[path] for path in bundle.variant(rung.name).files.values()} for rung in session.rungs]
    seen, first = set(hashes[0]), bundle.size_bytes(bundle.variant(session.rungs[0].name))
    added = {}
    for rung, own in zip(session.rungs[1:], hashes[1:], strict=True):
        added[rung.precision] = 0.0 if own <= seen else bundle.size_bytes(bundle.variant(rung.name)) / first
        seen |= own
    return added


@dataclass(frozen=True)
class Comparison:
    """A trace, served by each fixed end of the ladder and by policies, and what who knows it could do."""

    session: AdaptiveRunner
    runs: dict[str, Replayed]
    worth: tuple[float, ...]
    """Of a request, by rung: 1 for the most precise, 0 for the fastest."""
    oracles: dict[str, oracle.Schedule]
    """For each policy: the best schedule that misses no more than its run did."""

    @property
    def adaptive(self) -> tuple[str, ...]:
        """The names of the runs that are no fixed ones."""
        return tuple(name for name in self.runs if not name.startswith("fixed "))

    def summary(self) -> dict[str, Any]:
        """All numbers, JSON-ready."""
        session = self.session
        fastest = self.runs[f"fixed {session.rungs[-1].precision}"]
        first = next(iter(self.runs.values()))
        return {
            "trace": first.trace.name,
            "seconds": first.trace.seconds,
            "requests": len(first.rungs),
            "deadline_ms": first.deadline_ms,
            "ladder": [rung._asdict() for rung in session.rungs],
            "left_out": session.left_out,
            "resident_bytes": session.resident_bytes,
            "opening_ms": session.opening_ms,
            "runs": {name: self._run(name) for name in self.runs},
            "oracles": {
                name: {
                    "missed_percent": 100 * found.missed / len(found.rungs),
                    "worth": self._worth(found.rungs),
                    "shares": {
                        rung.precision: float(np.mean(found.rungs == i)) for i, rung in enumerate(session.rungs)
                    },
                }
                for name, found in self.oracles.items()
            },
            "verdicts": {name: self._verdict(name, fastest) for name in self.adaptive},
        }

    def _worth(self, rungs: Any) -> float:
        return float(np.mean(np.asarray(self.worth)[rungs]))

    def _verdict(self, name: str, fastest: Replayed) -> dict[str, float | None]:
        run = self.runs[name]
        of_oracle = self._worth(self.oracles[name].rungs)
        return {
            "missed_more_than_fastest_percent": 100 * float(run.missed.mean() - fastest.missed.mean()),
            "share_of_oracle": self._worth(run.rungs) / of_oracle if of_oracle else None,
        }

    def _run(self, name: str) -> dict[str, Any]:
        run = self.runs[name]
        switches_ms = [change.took_ms for change in run.changes if not change.opened]
        accuracy = [rung.accuracy for rung in self.session.rungs]
        known = all(value is not None for value in accuracy)
        cpu = [sample.condition.cpu for sample in run.samples if sample.condition.cpu is not None]
        watts = [sample.watts for sample in run.samples if sample.watts is not None]
        return {
            "missed_percent": 100 * float(run.missed.mean()),
            "shares": run.shares,
            "worth": self._worth(run.rungs),
            "expected_accuracy": sum(
                share * float(value or 0) for share, value in zip(run.shares.values(), accuracy, strict=True)
            )
            if known
            else None,
            "latency_ms": {str(q): float(np.percentile(run.latency_ms, q)) for q in (50, 99)},
            "service_ms": {
                rung.precision: float(run.service_ms[run.rungs == i].mean()) if (run.rungs == i).any() else None
                for i, rung in enumerate(self.session.rungs)
            },
            "changes": len(run.changes),
            "switch_ms": {"median": float(np.median(switches_ms)), "max": max(switches_ms)} if switches_ms else None,
            "after_switch_ms": _after_switch_ms(run),
            "openings_ms": [change.took_ms for change in run.changes if change.opened],
            "failures": list(run.failures),
            "cpu": fmean(cpu) if cpu else None,
            "watts": fmean(watts) if watts else None,
            "joules_per_request": fmean(watts) * float(run.end_s[-1]) / len(run.rungs) if watts else None,
        }


def _after_switch_ms(run: Replayed) -> float | None:
    """What the first inference after a change takes more than others of its rung: the median of both, subtracted."""
    changed = np.flatnonzero(np.diff(run.rungs)) + 1
    if not len(changed):
        return None
    usual = {rung: float(np.median(run.service_ms[run.rungs == rung])) for rung in set(run.rungs[changed].tolist())}
    return float(np.median([run.service_ms[i] - usual[int(run.rungs[i])] for i in changed]))


def compare(
    session: AdaptiveRunner,
    trace: Trace,
    policies: Mapping[str, tuple[Policy, int]],
    feeds: Sequence[Feeds],
    *,
    contention: Contention | None = None,
    sampler: Sampler | None = None,
    keep: Callable[[Outputs], Outputs] | None = None,
    progress: Progress = SILENT,
) -> Comparison:
    """Serve a trace with every rung fixed, and with `policies`, each (policy, hold) by name; then ask the oracle.

    Every run has the same session, inputs and contention, one after the other.
    """
    runs: dict[str, Replayed] = {}
    arms = {f"fixed {rung.precision}": (fixed(rung.precision), 1) for rung in session.rungs} | dict(policies)
    with progress.task(f"serve {trace.name}", len(arms)) as task:
        for name, (policy, hold) in arms.items():
            session.restart(policy.function if isinstance(policy, UserFunction) else policy, hold)
            runs[name] = replay(trace, session, feeds, contention=contention, sampler=sampler, keep=keep)
            task.advance(note=name)
    singles = [runs[f"fixed {rung.precision}"] for rung in session.rungs]
    worth = tuple(1 - i / (len(session.rungs) - 1) for i in range(len(session.rungs)))
    oracles: dict[str, oracle.Schedule] = {}
    with progress.task("oracle", len(policies)) as task:
        for name in policies:
            missed = int(runs[name].missed.sum())
            served = oracle.services(runs[name], singles)
            oracles[name] = oracle.best(trace.arrivals_s, served, session.deadline_ms / 1e3, worth, missed)
            task.advance(note=name)
    return Comparison(session, runs, worth, oracles)
