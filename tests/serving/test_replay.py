from __future__ import annotations

import numpy as np
import pytest

from edgeprune.serving.policy import fixed, most_accurate
from edgeprune.serving.series import series
from edgeprune.serving.trace import GENERATED, Capacity, Trace, generate

CAPACITY = Capacity(500.0, 1000.0)


def test_latency_counts_from_the_schedule_so_that_a_slow_answer_delays_no_arrival(served):
    run = served(fixed("fp32"), (10, 5)).replay(Trace("t", np.array([0.0, 0.001, 0.002, 0.5])))
    np.testing.assert_allclose(run.latency_ms, [10, 19, 28, 10], rtol=1e-3)
    np.testing.assert_array_equal(run.queue, [0, 1, 0, 0])
    assert run.shares == {"fp32": 1.0, "int8": 0.0}


def test_floors_are_those_of_the_classes_in_the_trace(served):
    trace = Trace("t", np.arange(4) / 10, ("", "audit", "", "audit"))
    run = served(fixed("int8"), (2, 1), floors={"audit": "fp32"}).replay(trace)
    np.testing.assert_array_equal(run.rungs, [1, 0, 1, 0])


@pytest.mark.parametrize("kind", GENERATED)
def test_the_policy_misses_hardly_more_than_the_fastest_and_serves_much_more_precisely(served, kind):
    trace = generate(kind, CAPACITY, phase_s=2.0, seed=0)
    runs = {
        name: served(policy, (2, 1)).replay(trace)
        for name, policy in (("fp32", fixed("fp32")), ("int8", fixed("int8")), ("policy", most_accurate()))
    }
    missed = {name: run.missed.mean() for name, run in runs.items()}
    assert missed["fp32"] > 0.3
    assert missed["policy"] <= missed["int8"] + 0.01
    assert runs["policy"].shares["fp32"] > 0.35


def test_the_series_adds_up_to_the_run(served):
    trace = generate("step", CAPACITY, phase_s=1.0, seed=0)
    run = served(most_accurate(), (2, 1)).replay(trace)
    rows = list(series(run))
    assert sum(row["served"] for row in rows) == len(trace.arrivals_s)
    assert sum(row["arrivals_per_s"] for row in rows) == pytest.approx(10 * len(trace.arrivals_s))
    assert sum(row["missed"] for row in rows) == run.missed.sum()
    assert sum(row["by_precision"]["fp32"] for row in rows) == (run.rungs == 0).sum()
    assert [row["t_s"] for row in rows] == pytest.approx(np.arange(len(rows)) / 10)
