"""With LoadGen itself; what it asks takes a known time."""

from __future__ import annotations

import sys
from time import perf_counter, thread_time

import numpy as np
import pytest

from edgeprune.errors import DataError, MissingError
from edgeprune.measure.latency import time_runs
from edgeprune.measure.loadgen import drive
from edgeprune.scenario import LOADGEN, Scenario

pytest.importorskip("mlperf_loadgen", reason="LoadGen has no wheel here")


class Work:
    """Takes `ms` of processor time, and counts how often it is done."""

    def __init__(self, ms):
        self.ms, self.runs = ms, 0

    def __call__(self):
        self.runs += 1
        until = thread_time() + self.ms * 1e-3
        while thread_time() < until:
            pass


def test_one_after_another_a_latency_is_what_a_run_takes():
    work = Work(1.0)
    found = drive(work, Scenario(driver=LOADGEN), seconds=0.2, queries=64, expected_ms=1)
    assert len(found.latencies_ms) == work.runs >= 64
    assert min(found.latencies_ms) == pytest.approx(1.0, rel=0.05)
    assert found.invalid == ()
    assert found.version[:1].isdigit()


def test_the_built_in_loop_tells_what_loadgen_tells():
    """Of a run of a millisecond, within 2 %; the lower decile, for others may use this machine, too."""
    work = Work(1.0)
    by_loadgen = drive(work, Scenario(driver=LOADGEN), seconds=0.4, queries=64, expected_ms=1).latencies_ms
    built_in = time_runs(work, seconds=0.4, least=64, most=10_000)
    assert np.quantile(built_in, 0.1) == pytest.approx(np.quantile(by_loadgen, 0.1), rel=0.02)


def test_a_query_of_several_samples_takes_as_long_as_all_of_them():
    work, scenario = Work(0.5), Scenario("multi-stream", LOADGEN, samples_per_query=8, batch=2)
    found = drive(work, scenario, seconds=0.1, queries=20, expected_ms=0.5)
    assert work.runs == 4 * len(found.latencies_ms)
    assert min(found.latencies_ms) == pytest.approx(2.0, rel=0.05)
    assert found.invalid == ("so few queries do not make its percentile sure",)


def test_where_more_arrives_than_can_be_done_the_waiting_counts():
    work, scenario = Work(2.0), Scenario("server", LOADGEN, queries_per_s=1000, deadline_ms=4)
    found = drive(work, scenario, seconds=0.1, queries=100, expected_ms=2)
    latencies = np.array(found.latencies_ms)
    assert latencies[-10:].mean() > 50  # 100 arrive in 0.1 s and take 0.2 s
    assert found.invalid[0] == "the deadline is not met by 99 % of the queries"


def test_arrivals_are_poisson():
    begun = []
    scenario = Scenario("server", LOADGEN, queries_per_s=400, deadline_ms=4)
    drive(lambda: begun.append(perf_counter()), scenario, seconds=1, queries=300, expected_ms=0.01)
    gaps = np.diff(begun)
    assert np.mean(gaps) == pytest.approx(1 / 400, rel=0.25)
    assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.25)  # of an exponential distribution both are equal


def test_offline_there_is_no_latency_but_a_rate():
    work = Work(1.0)
    found = drive(work, Scenario("offline", LOADGEN, batch=4), seconds=0.2, queries=1, expected_ms=1)
    assert found.latencies_ms == ()
    assert 0.3 * 4000 < found.samples_per_s < 1.05 * 4000


def test_what_goes_wrong_in_a_run_is_raised_when_the_test_is_over():
    def refuse():
        raise DataError("input 'x' is int64")

    with pytest.raises(DataError, match="input 'x' is int64"):
        drive(refuse, Scenario(driver=LOADGEN), seconds=0.01, queries=3, expected_ms=1)


def test_without_loadgen_the_way_to_get_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(MissingError, match=r"pip install 'edgeprune\[loadgen\]'"):
        drive(Work(1), Scenario(driver=LOADGEN), seconds=1, queries=1, expected_ms=1)
