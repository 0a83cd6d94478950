"""Joules per inference over a window of steady work, with the idle power of the same minute beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from edgeprune.errors import MissingError
from edgeprune.meters.meter import Meter

WINDOW_S = 10.0
IDLE_S = 2.0


@dataclass(frozen=True)
class EnergyWindow:
    """What one window found. Idle power is reported beside it, not subtracted: the device draws it, too."""

    joules_per_run: float
    runs: int
    seconds: float
    idle_watts: float


def measure_energy(
    run: Callable[[], object],
    meter: Meter,
    *,
    seconds: float = WINDOW_S,
    idle_s: float = IDLE_S,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> EnergyWindow:
    """Idle for `idle_s`, then run for at least `seconds`. Raises MissingError where the counter stands still."""
    begin, before_j = clock(), meter.energy_j()
    sleep(idle_s)
    idle_watts = (meter.energy_j() - before_j) / (clock() - begin)
    begin, before_j, runs = clock(), meter.energy_j(), 0
    while (elapsed := clock() - begin) < seconds or runs == 0:
        run()
        runs += 1
    used_j = meter.energy_j() - before_j
    if used_j <= 0:
        raise MissingError(f"{meter.sensor}: the counter did not move in {elapsed:.0f} s of work")
    return EnergyWindow(used_j / runs, runs, elapsed, idle_watts)
