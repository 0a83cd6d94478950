from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.errors import BudgetError, DataError, DeviceError, InputError, UnknownNameError
from edgeprune.serving.policy import fixed, most_accurate, threshold
from edgeprune.serving.session import BUCKETS_MS, AdaptiveRunner, Variant
from edgeprune.tensor import TensorSpec

X = {"x": np.zeros(1, np.float32)}


def by_turns(readings, ladder):
    """Wants another precision each time."""
    return ladder[1 - readings.current].precision


@pytest.mark.parametrize("hold", [1, 2, 50])
def test_a_policy_that_always_wants_to_change_may_once_in_hold_requests(served, hold):
    one = served(by_turns, (2, 1), hold=hold)
    rungs = [one.infer() for _ in range(200)]
    assert rungs == [i // hold % 2 for i in range(200)]  # it begins with what is wanted at first
    assert [change.served for change in one.session.changes] == list(range(0, 200, hold))


@settings(max_examples=30, deadline=None)
@given(wants=st.lists(st.sampled_from(["fp32", "bf16", "int8"]), min_size=1, max_size=300), hold=st.integers(1, 60))
def test_whatever_a_policy_wants_changes_are_hold_apart(served, wants, hold):
    queue = iter([wants[0], *wants])  # it is asked once when the session opens
    one = served(lambda readings, ladder: next(queue, "int8"), (3, 2, 1), hold=hold)
    for _ in range(len(wants)):
        one.infer()
    at = [change.served for change in one.session.changes]
    assert all(later - earlier >= hold for earlier, later in itertools.pairwise(at))


def test_it_is_a_runner_whose_answers_are_those_of_the_variant_that_serves(served):
    one = served(fixed("int8"), (2, 1))
    assert one.session.input_names == one.session.output_names == ("x",)
    assert one.session.infer(X)["x"] is X["x"]
    assert one.session.evidence() == {"runtime": "0.001"}
    with one.session:
        pass
    assert all(runner.closed for runner in one.runners)


def test_a_floor_lifts_the_requests_of_its_class_and_no_other(served):
    one = served(fixed("int8"), (3, 2, 1), floors={"audit": "fp32", "alarm": "bf16"})
    assert [one.infer(request_class=name) for name in (None, "audit", "alarm", "other", None)] == [2, 0, 1, 2, 2]
    assert one.session.changes == []  # a floor is none
    high = served(fixed("fp32"), (3, 2, 1), floors={"alarm": "bf16"})
    assert high.infer(request_class="alarm") == 0


def test_a_variant_that_fails_is_left_out_and_its_request_answered(served):
    one = served(fixed("fp32"), (3, 2, 1))
    one.infer()
    one.runners[0].broken = True
    assert one.infer() == 1
    assert one.infer() == 1
    assert (
        one.session.failures
        == ["ort-fp32 failed and is left out, ort-bf16, ort-int8 serves on: DeviceError: the device went away"]
        or "ort-fp32 failed and is left out" in one.session.failures[0]
    )
    assert one.runners[0].closed
    one.runners[2].broken = True
    one.runners[1].broken = True
    with pytest.raises(DeviceError):
        one.infer()
    assert one.session.statistics.errors == 1
    one.runners[1].broken = False
    assert one.infer() == 1


def test_a_policy_that_names_what_failed_is_left_and_serving_goes_on(served):
    one = served(fixed("fp32"), (2, 1))
    one.runners[0].broken = True
    assert [one.infer() for _ in range(100)] == [1] * 100
    assert len(one.session.failures) == 1


def test_the_fastest_may_fail_too(served):
    one = served(fixed("int8"), (2, 1))
    one.runners[1].broken = True
    assert one.infer() == 0
    assert "ort-int8 failed" in one.session.failures[0]


def test_no_request_with_a_floor_falls_below_it(served):
    one = served(fixed("fp32"), (3, 2, 1), floors={"audit": "fp32"})
    one.runners[0].broken = True
    with pytest.raises(DeviceError):
        one.infer(request_class="audit")
    assert one.infer() == 1


def test_feeds_that_do_not_fit_are_the_callers_fault(served):
    one = served(fixed("fp32"), (2, 1))
    with pytest.raises(DataError, match="the model takes float32"):
        one.session.infer({"x": np.zeros(2, np.float32)})
    assert one.session.failures == []
    assert one.infer() == 0


def test_a_policy_that_raises_while_serving_loses_no_request(served):
    calls = itertools.count()

    def policy(readings, ladder):
        if next(calls) > 3:
            raise ZeroDivisionError("oh")
        return "fp32"

    one = served(policy, (2, 1))
    assert [one.infer() for _ in range(10)] == [0] * 4 + [1] * 6
    assert one.session.failures == ["the policy failed, so that int8 serves from now on: ZeroDivisionError: oh"]


def test_what_is_wrong_is_said_before_the_first_request(served):
    with pytest.raises(InputError, match="two precisions are needed"):
        served(fixed("fp32"), (1,))
    with pytest.raises(InputError, match=r"no variant is faster than ort-fp32: ort-int8 takes 2.000 ms"):
        served(fixed("fp32"), (1, 2))
    with pytest.raises(BudgetError, match=r"no variant meets a deadline of 0.5 ms: the fastest, ort-int8, takes 1.000"):
        served(most_accurate(), (2, 1), deadline_ms=0.5)
    with pytest.raises(UnknownNameError, match="int4"):
        served(fixed("int4"), (2, 1))
    with pytest.raises(UnknownNameError, match="fp23"):
        served(fixed("int8"), (2, 1), floors={"audit": "fp23"})
    with pytest.raises(InputError, match="hold is 0"):
        served(fixed("int8"), (2, 1), hold=0)


def test_a_variant_that_is_not_faster_is_left_out_and_closed(served):
    one = served(most_accurate(), (3, 3, 1))
    assert [rung.precision for rung in one.session.rungs] == ["fp32", "int8"]
    assert one.session.left_out == {"ort-bf16": "takes 3.000 ms, the more precise ort-fp32 3.000"}
    assert [runner.closed for runner in one.runners] == [False, True, False]
    assert [rung.service_ms for rung in one.session.rungs] == pytest.approx([3, 1], rel=0.01)
    assert one.session.deadline_ms == pytest.approx(150, rel=0.01)


def test_what_is_counted_adds_up(served):
    one = served(fixed("int8"), (20, 10), deadline_ms=15.0)
    for _ in range(5):
        one.infer(arrived_s=one.clock.now_s)
    one.infer(arrived_s=one.clock.now_s - 0.1)
    found = one.session.statistics
    assert (found.served, found.missed, found.errors, found.changes) == ({"fp32": 0, "int8": 6}, 1, 0, 0)
    assert sum(found.latency_ms) == 6
    assert found.latency_sum_ms == pytest.approx(160, rel=0.01)
    assert found.latency_ms[BUCKETS_MS.index(20.0)] == 5
    one.session.restart(fixed("fp32"), 50)
    assert one.session.statistics.served == {"fp32": 0, "int8": 0}


class Echo:
    """As little as a runner can do; says when two requests meet in it, and takes longer as long as it is measured."""

    inputs = (TensorSpec("x", "int64", (1,)),)
    input_names = output_names = ("x",)

    def __init__(self, measured_s: float) -> None:
        self.inside, self.measured_s = threading.Lock(), measured_s

    def infer(self, feeds):
        assert self.inside.acquire(blocking=False), "two requests at once"
        time.sleep(self.measured_s)
        self.inside.release()
        return {"x": feeds["x"].copy()}

    def close(self) -> None:
        pass


def _through_threads(requests: int, threads: int) -> None:
    """All of `requests` from threads at once, the precision changing all the while."""
    echoes = (Echo(0.002), Echo(0.001))
    variants = [
        Variant(name, name, None, lambda echo=echo: echo) for name, echo in zip(("fp32", "int8"), echoes, strict=True)
    ]
    session = AdaptiveRunner(variants, by_turns, feeds={"x": np.array([0])}, hold=7, deadline_ms=1e3)
    for echo in echoes:
        echo.measured_s = 0.0
    each = requests // threads
    answers: list[list[int]] = [[] for _ in range(threads)]

    def send(thread: int) -> None:
        mine = answers[thread]
        for i in range(each):
            mine.append(int(session.infer({"x": np.array([thread * each + i])})["x"][0]))

    workers = [threading.Thread(target=send, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for thread, mine in enumerate(answers):
        assert mine == list(range(thread * each, (thread + 1) * each))
    found = session.statistics
    assert sum(found.served.values()) == sum(found.latency_ms) == each * threads
    assert min(found.served.values()) > 0.4 * each * threads
    assert found.changes == pytest.approx(each * threads / 7, abs=1)
    assert session.failures == []


def test_of_many_requests_from_threads_none_is_lost_doubled_or_reordered():
    _through_threads(20_000, 4)


@pytest.mark.system
def test_of_a_million_requests_from_threads_none_is_lost_doubled_or_reordered():
    _through_threads(1_000_000, 4)


def test_calls_that_wait_are_the_queue(served):
    one, waiting = served(fixed("int8"), (2, 1)), []
    begun, go_on = threading.Event(), threading.Event()

    def held(feeds):
        begun.set()
        go_on.wait()
        return feeds

    one.session.restart(lambda readings, ladder: waiting.append(readings.waiting) or "int8", 1)
    one.runners[0].infer = one.runners[1].infer = held
    threads = [threading.Thread(target=one.infer) for _ in range(4)]
    threads[0].start()
    begun.wait()
    for thread in threads[1:]:
        thread.start()
    while len(one.session._turns) < 3:
        pass
    go_on.set()
    for thread in threads:
        thread.join()
    assert waiting == [0, 0, 2, 1, 0]  # it is asked once before the first


def test_threshold_serves_too(served):
    one = served(threshold(), (2, 1))
    assert one.infer() == 0
    for _ in range(200):
        one.infer(arrived_s=one.clock.now_s - 0.09, waiting=50)
    assert one.session.last.rung == 1
