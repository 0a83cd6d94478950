from __future__ import annotations

import itertools
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.measure.latency import BLOCK, WINDOW, time_runs, warm_up


class Clock:
    """Time that passes only in runs: each takes the next of `durations_ns`."""

    def __init__(self, durations_ns):
        self.now_ns = 0
        self.durations = iter(durations_ns)
        self.runs = 0

    def __call__(self):
        return self.now_ns

    def run(self):
        self.now_ns += next(self.durations)
        self.runs += 1


def test_each_sample_is_one_run_in_milliseconds():
    clock = Clock([1_000_000, 2_500_000, 500])
    assert time_runs(clock.run, seconds=0, least=3, most=9, clock_ns=clock) == pytest.approx([1.0, 2.5, 0.0005])


def test_it_goes_on_until_the_time_is_up():
    clock = Clock(itertools.repeat(10_000_000))
    assert len(time_runs(clock.run, seconds=0.095, least=1, most=99, clock_ns=clock)) == 10


def test_it_goes_on_until_there_are_enough_runs():
    clock = Clock(itertools.repeat(1_000_000_000))
    assert len(time_runs(clock.run, seconds=0.1, least=4, most=99, clock_ns=clock)) == 4


@given(st.integers(1, 50), st.integers(1, 50))
def test_of_too_many_the_last_are_kept(least, most):
    clock = Clock(1_000_000 * n for n in itertools.count(1))
    kept = time_runs(clock.run, seconds=0, least=least, most=most, clock_ns=clock)
    assert kept == pytest.approx(list(range(1, least + 1))[-most:])


def test_a_steady_latency_is_warm_after_the_shortest_time():
    clock = Clock(itertools.repeat(1_000_000))
    warm = warm_up(clock.run, min_s=0.1, max_s=10, clock_ns=clock)
    assert warm.stable
    assert warm.seconds == pytest.approx(0.1)
    assert warm.runs == clock.runs == 100


def test_a_latency_that_falls_is_run_until_it_has_settled():
    falling = (int(1e6 * max(1.0, 3 - n / 100)) for n in itertools.count())
    clock = Clock(falling)
    warm = warm_up(clock.run, min_s=0, max_s=10, clock_ns=clock)
    assert warm.stable
    assert warm.runs >= 200


def test_a_latency_that_never_settles_is_told():
    random = np.random.default_rng(0)
    clock = Clock(int(1e6 * np.exp(random.normal(0, 2))) for _ in itertools.count())
    warm = warm_up(clock.run, min_s=0, max_s=1, clock_ns=clock)
    assert not warm.stable
    assert warm.seconds >= 1


def test_a_single_interrupted_run_does_not_look_unstable():
    durations = [1_000_000] * (BLOCK * WINDOW)
    durations[BLOCK * 2 + 3] = 500_000_000
    clock = Clock(durations)
    assert warm_up(clock.run, min_s=0, max_s=10, clock_ns=clock).runs == BLOCK * WINDOW


def test_the_loop_itself_takes_less_than_five_microseconds_an_inference():
    begun = []
    told_ms = time_runs(lambda: begun.append(perf_counter()), seconds=0, least=20_000, most=20_000)
    assert np.median(told_ms) < 5e-3
    assert np.median(np.diff(begun)) < 5e-6
