"""Find a plan that holds what was asked for when it is measured: sensitivity predicts, only measuring tells."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgeprune.errors import BudgetError
from edgeprune.quantize.allocation.allocate import Amount, Option, allocate, total
from edgeprune.quantize.spec import QuantPlan

STEPS = 7
"""How often the interval of what may be predicted is halved, in orders of magnitude."""
DECADES = 5
"""How far that interval reaches down from what the narrowest plan is predicted to lose; there all layers are float."""

Options = Mapping[str, Sequence[Option]]


@dataclass(frozen=True)
class Tried:
    """A plan, as it was measured."""

    plan: QuantPlan
    predicted_loss: float
    """Rise of the loss per sample."""
    lost_points: float
    """Of accuracy, on the samples that select."""
    file_bytes: int


Verify = Callable[[QuantPlan], tuple[float, int]]
"""Points lost and bytes of the file that a plan really gives."""


def smallest_within(
    options: Options, verify: Verify, max_drop: float, limits: Mapping[Amount, float] | None = None
) -> tuple[Tried, tuple[Tried, ...]]:
    """The smallest plan found that loses at most `max_drop` points, and all that were tried.

    Plans have the smallest size for a predicted loss, and that is sought by halving: a plan that loses too much allows
    less of it, one that does not allows more. Where none is within, the one that loses least. Every plan keeps
    `limits`, or comes as near as can be.
    """
    limits = attainable(options, limits or {})
    highest = sum(max(option.loss for option in choices) for choices in options.values())
    high = math.log10(max(highest, 1e-30))
    low, level = high - DECADES, high
    tried: dict[str, Tried] = {}
    for _ in range(STEPS + 1):
        try:
            plan = allocate(options, "size_bytes", {"loss": 10**level, **limits})
        except BudgetError:  # what keeps the limits loses more
            low, level = level, (level + high) / 2
            continue
        one = _try(plan, options, verify, tried)
        if one.lost_points <= max_drop:
            low = level
        else:
            high = level
        if low == high:  # the narrowest of all was good enough
            break
        level = (low + high) / 2
    if not any(one.lost_points <= max_drop for one in tried.values()):
        _try(allocate(options, "loss", limits), options, verify, tried)
    within = [one for one in tried.values() if one.lost_points <= max_drop]
    if within:
        return min(within, key=lambda one: one.file_bytes), tuple(tried.values())
    return min(tried.values(), key=lambda one: one.lost_points), tuple(tried.values())


def best_within_size(
    options: Options, verify: Verify, max_bytes: float, limits: Mapping[Amount, float] | None = None
) -> tuple[Tried, tuple[Tried, ...]]:
    """The plan that is predicted to lose least in a file of at most `max_bytes`, and all that were tried.

    How much of a file is not weights shows when one is written; what it is too large by, weights then have less. Where
    even the narrowest plan is too large, that one. Every plan keeps `limits`, or comes as near as can be.
    """
    limits = attainable(options, limits or {})
    tried: dict[str, Tried] = {}
    narrowest = _try(allocate(options, "size_bytes", limits), options, verify, tried)
    if narrowest.file_bytes > max_bytes:
        return narrowest, (narrowest,)
    beside = narrowest.file_bytes - total(options, narrowest.plan, "size_bytes")
    best = narrowest
    for _ in range(STEPS):
        room = max_bytes - beside
        one = _try(allocate(options, "loss", {"size_bytes": room, **limits}), options, verify, tried)
        if one.file_bytes <= max_bytes:
            best = one
            break
        beside += one.file_bytes - max_bytes
    return best, tuple(tried.values())


def attainable(options: Options, limits: Mapping[Amount, float]) -> dict[Amount, float]:
    """The limits, those that no plan keeps as low as some plan does."""
    return {
        amount: max(limit, sum(min(getattr(option, amount) for option in choices) for choices in options.values()))
        for amount, limit in limits.items()
    }


def _try(plan: QuantPlan, options: Options, verify: Verify, tried: dict[str, Tried]) -> Tried:
    """Measure a plan that was not measured yet."""
    key = repr(plan)
    if key not in tried:
        lost, size = verify(plan)
        tried[key] = Tried(plan, total(options, plan, "loss"), lost, size)
    return tried[key]
