"""Which variant becomes the default, and which budget or rule is not met."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune.errors import BudgetError, DeviceError, EdgePruneError, FallbackError, MissingError
from edgeprune.recipe import Budgets
from edgeprune.results import MB, Measured, Measurement


@dataclass(frozen=True)
class Shortfall:
    """A budget that is not met."""

    text: str
    excess: float
    """How far it is missed, relative to what is allowed, to find the closest."""


def choose_default(baseline: Measurement, measurements: Sequence[Measurement], budgets: Budgets) -> Measured:
    """The fastest measured variant within the budgets; if none was, the fastest foretold, else the smallest.

    Of those that may be as fast as the fastest, by the interval of their speedup, it is the smallest. The baseline
    stands for election where it is a variant (nothing was pruned), so an INT8 that is slower never wins.
    """
    within = [one for one in _candidates(baseline, measurements) if not shortfalls(one, budgets)]
    timed = [one for one in within if one.percentile_ms(50) is not None]
    if timed:
        fastest = min(timed, key=lambda one: one.percentile_ms(50) or 0.0)
        smallest = min((one for one in timed if _as_fast(one, fastest)), key=lambda one: one.size_bytes)
        best, reason = fastest, "the fastest measured within the budgets"
        if smallest.size_bytes < fastest.size_bytes:
            best, reason = smallest, f"the smallest of those as fast as {fastest.variant}, within the budgets"
        return Measured(best.variant, reason, baseline, tuple(measurements))
    foretold = [(one.foretold.ms, one) for one in within if one.foretold is not None and one.foretold.ms is not None]
    if foretold:
        _, best = min(foretold, key=lambda pair: pair[0])
        reason = "unmeasured: foretold to be the fastest within the budgets"
        return Measured(best.variant, reason, baseline, tuple(measurements))
    judged = [one for one in within if not one.unmeasured or one.accuracy]
    if judged:
        best = min(judged, key=lambda one: one.size_bytes)
        return Measured(best.variant, "unmeasured: the smallest within the budgets", baseline, tuple(measurements))
    return Measured(None, "no variant is within the budgets", baseline, tuple(measurements))


def _as_fast(one: Measurement, fastest: Measurement) -> bool:
    if one is fastest or one.speedup is None or fastest.speedup is None:
        return one is fastest
    return one.speedup.high >= fastest.speedup.estimate


def _candidates(baseline: Measurement, measurements: Sequence[Measurement]) -> list[Measurement]:
    return list(measurements) if baseline.variant == "baseline" else [baseline, *measurements]


def shortfalls(one: Measurement, budgets: Budgets) -> list[Shortfall]:
    """Every budget this variant does not meet; accuracy is judged on the select split, by the task's first metric."""
    found = []
    if one.parity is not None and one.parity.fault:
        found.append(Shortfall(one.parity.fault, math.inf))
    judged = next((accuracy for accuracy in one.accuracy if accuracy.split == "select"), None)
    if judged is not None and judged.drop is not None:
        lost = 100 * judged.drop.estimate
        if lost > budgets.max_drop + 1e-9:
            text = f"loses {lost:.2f} points on the select split, {budgets.max_drop:g} allowed"
            found.append(Shortfall(text, (lost - budgets.max_drop) / max(budgets.max_drop, 1.0)))
    size_mb = one.size_bytes / MB
    if budgets.max_size_mb is not None and size_mb > budgets.max_size_mb:
        text = f"is {size_mb:.3f} MB, {budgets.max_size_mb:g} allowed"
        found.append(Shortfall(text, size_mb / budgets.max_size_mb - 1))
    p50, takes = one.percentile_ms(50), "takes"
    if p50 is None and one.foretold is not None:
        p50, takes = one.foretold.ms, "is foretold to take"
    if budgets.max_latency_ms is not None and p50 is None:
        found.append(Shortfall(f"takes an unknown time, {budgets.max_latency_ms:g} ms allowed", math.inf))
    elif budgets.max_latency_ms is not None and p50 is not None and p50 > budgets.max_latency_ms:
        text = f"{takes} {p50:.3f} ms, {budgets.max_latency_ms:g} allowed"
        found.append(Shortfall(text, p50 / budgets.max_latency_ms - 1))
    return found


def verdict(measured: Measured, budgets: Budgets, precision: str, *, allow_fallback: bool) -> EdgePruneError | None:
    """What ends the command with another exit code than 0, if anything.

    A device that failed comes first, then runtimes that are all missing, a variant that computes something else than
    the float graph, a fallback, a budget. Only variants of the precision that was asked for can fall back: the ones
    above it are shown for comparison.
    """
    candidates = _candidates(measured.baseline, measured.measurements)
    for one in candidates:
        if one.failed:
            return DeviceError(f"{one.variant}: {one.unmeasured}")
    if all(one.unmeasured and not one.accuracy for one in candidates):
        return MissingError(f"{candidates[0].variant}: {candidates[0].unmeasured}")
    for one in candidates:
        if one.parity is not None and one.parity.fault:
            return BudgetError(f"{one.variant}: {one.parity.fault}")
    for one in measured.measurements:
        if not allow_fallback and one.precision == precision and (fallen := one.fallbacks):
            first = fallen[0]
            return FallbackError(
                f"{one.variant}: {len(fallen)} of {len(one.layers)} layers did not run in {first.intended}, first"
                f" {first.name} ({first.effective}: {first.reason}): --allow-fallback accepts that"
            )
    if measured.default is None:
        closest = min(candidates, key=lambda one: sum(missed.excess for missed in shortfalls(one, budgets)))
        missed = ", ".join(shortfall.text for shortfall in shortfalls(closest, budgets))
        return BudgetError(
            f"no variant is within the budgets; closest: {closest.variant} {missed}: change what is kept"
            " (--keep, --precision) or what is allowed (--max-drop, --max-size-mb, --max-latency-ms)"
        )
    return None
