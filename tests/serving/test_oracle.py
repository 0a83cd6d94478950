from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgeprune.serving.oracle import Services, best, schedule, services
from edgeprune.serving.policy import fixed, most_accurate
from edgeprune.serving.trace import Capacity, generate

TWO = Services(np.array([[0.010], [0.004]]))


def brute_force(arrivals, deadline_s):
    """The most requests in the slow rung without a miss."""
    most = -1
    for rungs in itertools.product((0, 1), repeat=len(arrivals)):
        free_s, missed = 0.0, 0
        for at, rung in zip(arrivals, rungs, strict=True):
            free_s = max(free_s, at) + TWO.table_s[rung, 0]
            missed += free_s - at > deadline_s
        if not missed:
            most = max(most, rungs.count(0))
    return most


@pytest.mark.parametrize("seed", range(6))
def test_it_is_as_good_as_trying_everything(seed):
    arrivals = np.sort(np.random.default_rng(seed).uniform(0, 0.06, 10))
    found = best(arrivals, TWO, 0.03, (1, 0), 0)
    wanted = brute_force(arrivals.tolist(), 0.03)
    if wanted < 0:
        assert found.missed > 0
    else:
        assert found.missed == 0
        assert wanted - 1 <= (found.rungs == 0).sum() <= wanted  # the grid may cost one


def test_with_room_it_serves_all_precisely_and_without_any_all_fast():
    calm, full = np.arange(50) / 50, np.arange(200) / 251
    assert (best(calm, TWO, 0.1, (1, 0), 0).rungs == 0).all()
    assert (best(full, TWO, 0.1, (1, 0), 0).rungs == 0).mean() < 0.1


def test_misses_buy_precision():
    arrivals = np.arange(400) / 150
    few, many = (best(arrivals, TWO, 0.05, (1, 0), allowed) for allowed in (0, 100))
    assert (few.missed, many.missed <= 100) == (0, True)
    assert (many.rungs == 0).sum() > (few.rungs == 0).sum()
    free = schedule(arrivals, TWO, 0.05, (1, 0), 0.0)
    assert (free.rungs == 0).all()


def test_no_policy_beats_it(served):
    trace = generate("step", Capacity(500.0, 1000.0), phase_s=2.0, seed=0)
    fixed_runs = [served(fixed(name), (2, 1)).replay(trace) for name in ("fp32", "int8")]
    run = served(most_accurate(), (2, 1)).replay(trace)
    found = best(trace.arrivals_s, services(run, fixed_runs), run.deadline_ms / 1e3, (1, 0), int(run.missed.sum()))
    assert found.missed <= run.missed.sum()
    assert run.shares["fp32"] <= (found.rungs == 0).mean() + 0.01
    assert run.shares["fp32"] > 0.9 * (found.rungs == 0).mean()


def test_services_are_the_runs_own_and_else_those_of_the_fixed(served):
    trace = generate("step", Capacity(500.0, 1000.0), phase_s=1.0, seed=0)
    slow, fast = (served(fixed(name), (2, 1)).replay(trace) for name in ("fp32", "int8"))
    own = served(fixed("fp32"), (3, 1)).replay(trace)
    table = services(own, [slow, fast])
    np.testing.assert_allclose(table.table_s[0, :2], 0.003, rtol=1e-3)
    np.testing.assert_allclose(table.table_s[1], 0.001, rtol=1e-3)
    np.testing.assert_allclose(table.at(1, np.array([0.0, 1e6])), 0.001, rtol=1e-3)
