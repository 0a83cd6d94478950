"""Energy from a sensor that only tells power: its readings, summed over time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from edgeprune.errors import MissingError


class PowerIntegral:
    """Reads watts at a fixed rate in a thread of its own and adds up joules by the trapezoidal rule.

    Between two readings power is taken to run straight, so what is shorter than a period is not seen: a window must
    be many periods long. A reading that fails ends it; `energy_j` then tells why.
    """

    def __init__(
        self, watts: Callable[[], float], hz: float, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._watts, self._period_s, self._clock = watts, 1 / hz, clock
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._joules, self._failed = 0.0, ""
        self._last_s, self._last_w = clock(), watts()
        self._thread = threading.Thread(target=self._sample, name="edgeprune-power", daemon=True)
        self._thread.start()

    def energy_j(self) -> float:
        """Joules since it was opened, up to now. Raises MissingError where the sensor failed in between."""
        self._read()
        if self._failed:
            raise MissingError(self._failed)
        return self._joules

    def close(self) -> None:
        """Stop reading."""
        self._stopped.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._failed and not self._stopped.wait(self._period_s):
            self._read()

    def _read(self) -> None:
        with self._lock:
            if self._failed:
                return
            try:
                watts = self._watts()
            except MissingError as error:
                self._failed = f"{error} (while measuring)"
                return
            now_s = self._clock()
            self._joules += (self._last_w + watts) / 2 * (now_s - self._last_s)
            self._last_s, self._last_w = now_s, watts
