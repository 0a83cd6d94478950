from __future__ import annotations

import pytest

from edgeprune.errors import MissingError
from edgeprune.measure.energy import measure_energy


class Machine:
    """Draws 2 W idle and 10 W at work; a run takes a quarter of a second."""

    sensor, sampling_hz = "wattmeter", None

    def __init__(self, idle_w=2.0, work_w=10.0):
        self.now_s = self.used_j = 0.0
        self.idle_w, self.work_w = idle_w, work_w

    def clock(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds
        self.used_j += self.idle_w * seconds

    def run(self):
        self.now_s += 0.25
        self.used_j += self.work_w * 0.25

    def energy_j(self):
        return self.used_j


def test_joules_are_those_of_the_window_by_its_runs():
    machine = Machine()
    window = measure_energy(machine.run, machine, clock=machine.clock, sleep=machine.sleep)
    assert window.runs == 40
    assert window.seconds == pytest.approx(10)
    assert window.joules_per_run == pytest.approx(2.5)  # 10 W for a quarter of a second: idle is not subtracted
    assert window.idle_watts == pytest.approx(2)


def test_a_run_longer_than_the_window_is_still_one_run():
    machine = Machine()
    assert measure_energy(machine.run, machine, seconds=0.1, clock=machine.clock, sleep=machine.sleep).runs == 1


def test_a_counter_that_stands_still_is_no_measurement():
    machine = Machine(idle_w=0, work_w=0)
    with pytest.raises(MissingError, match="wattmeter: the counter did not move"):
        measure_energy(machine.run, machine, clock=machine.clock, sleep=machine.sleep)


def test_a_counter_that_moves_now_and_then_errs_by_less_than_its_period_in_the_window():
    machine = Machine(idle_w=10)

    class Coarse:
        sensor, sampling_hz = "coarse", 10.0

        def energy_j(self):
            return 1.0 * int(machine.used_j / 1.0)  # ten times a second at 10 W

    window = measure_energy(machine.run, Coarse(), clock=machine.clock, sleep=machine.sleep)
    assert window.joules_per_run == pytest.approx(2.5, rel=0.1 / window.seconds)
