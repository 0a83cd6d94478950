"""The machine's condition and power, read now and then in a thread of its own: sensors are too slow for requests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

from edgeprune.errors import MissingError
from edgeprune.measure.condition import Condition, ConditionReader
from edgeprune.meters.meter import Meter
from edgeprune.meters.nvml import NvmlUse

PERIOD_S = 0.25
NOTHING = Condition(None, None, None, None, throttled=False)


class Sample(NamedTuple):
    """What was read at a time."""

    at_s: float
    condition: Condition
    watts: float | None
    """Mean since the last sample; None without a meter."""


class Sampler:
    """Keeps the newest sample in `latest`, and all since `take` was last called."""

    def __init__(
        self,
        read: Callable[[], Condition] | None = None,
        meter: Meter | None = None,
        *,
        period_s: float = PERIOD_S,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._read, self._meter, self._period_s, self._clock = read or _reader().read, meter, period_s, clock
        self._last_j, self._last_s = (meter.energy_j() if meter else 0.0), clock()
        self._log: list[Sample] = []
        self.latest = Sample(clock(), NOTHING, None)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="edgeprune-sampler", daemon=True)
        self._thread.start()

    def take(self) -> list[Sample]:
        """What was read since the last call."""
        taken, self._log = self._log, []
        return taken

    def close(self) -> None:
        """Stop reading, and close the meter."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._thread.join()
            if self._meter is not None:
                self._meter.close()

    def _sample(self) -> None:
        while not self._stopped.wait(self._period_s):
            self.latest = Sample(self._clock(), self._read(), self._watts())
            self._log.append(self.latest)

    def _watts(self) -> float | None:
        if self._meter is None:
            return None
        try:
            joules, now_s = self._meter.energy_j(), self._clock()
        except MissingError:  # it failed since
            return None
        watts = (joules - self._last_j) / (now_s - self._last_s)
        self._last_j, self._last_s = joules, now_s
        return watts


def _reader() -> ConditionReader:
    try:
        return ConditionReader(card=NvmlUse().share)
    except MissingError:
        return ConditionReader()
