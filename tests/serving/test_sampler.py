from __future__ import annotations

import time

from edgeprune.errors import MissingError
from edgeprune.measure.condition import Condition
from edgeprune.serving.sampler import Sampler

CALM = Condition(0.25, None, 1 << 30, 40.0, throttled=False)


class Counter:
    """A meter of one watt that fails when told to."""

    sensor, sampling_hz = "test", None

    def __init__(self) -> None:
        self.broken = False

    def energy_j(self) -> float:
        if self.broken:
            raise MissingError("gone")
        return time.perf_counter()

    def close(self) -> None:
        pass


def test_it_keeps_the_newest_and_all_since_they_were_taken():
    meter = Counter()
    sampler = Sampler(lambda: CALM, meter, period_s=0.01)
    while sampler.latest.watts is None:
        time.sleep(0.005)
    assert sampler.latest.condition == CALM
    assert abs(sampler.latest.watts - 1) < 0.05
    meter.broken = True
    while sampler.latest.watts is not None:
        time.sleep(0.005)
    sampler.close()
    taken = sampler.take()
    assert taken[-1] == sampler.latest
    assert sampler.take() == []
