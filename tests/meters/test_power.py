import threading

import pytest

from edgeprune.errors import MissingError
from edgeprune.meters.power import PowerIntegral


class Clock:
    """Time that the test moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def integral():
    opened = []

    def made(watts, clock):
        opened.append(PowerIntegral(watts, hz=1e-3, clock=clock))  # its own thread does not read within the test
        return opened[-1]

    yield made
    for one in opened:
        one.close()


def test_steady_power_times_time_is_energy(integral):
    clock = Clock()
    meter = integral(lambda: 5.0, clock)
    clock.now = 3.0
    assert meter.energy_j() == pytest.approx(15)


def test_a_ramp_is_summed_exactly_whatever_the_steps(integral):
    clock = Clock()
    meter = integral(lambda: 2 * clock.now, clock)
    for clock.now in (0.1, 0.5, 2.0, 4.0):
        meter.energy_j()
    assert meter.energy_j() == pytest.approx(4.0**2)


def test_the_thread_reads_without_being_asked():
    seen = threading.Event()
    calls = []

    def watts():
        calls.append(1)
        if len(calls) > 5:
            seen.set()
        return 1.0

    meter = PowerIntegral(watts, hz=200)
    assert seen.wait(5)
    meter.close()
    before = len(calls)
    assert not threading.Event().wait(0.05)
    assert len(calls) == before


def test_a_sensor_that_dies_midway_is_told_not_summed(integral):
    clock, alive = Clock(), [True]

    def watts():
        if not alive[0]:
            raise MissingError("the sensor is gone")
        return 1.0

    meter = integral(watts, clock)
    clock.now, alive[0] = 1.0, False
    for _ in range(2):
        with pytest.raises(MissingError, match=r"the sensor is gone \(while measuring\)"):
            meter.energy_j()
