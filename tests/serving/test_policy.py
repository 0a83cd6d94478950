from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import ConfigError, UnknownNameError
from edgeprune.serving.policy import (
    BANDS,
    Limits,
    Readings,
    Rung,
    fixed,
    most_accurate,
    named,
    peak_ms,
    place,
    slack_ms,
    threshold,
)

LADDER = (Rung("a", "fp32", 2.0), Rung("b", "bf16", 1.5), Rung("c", "int8", 1.0))
IDLE = Readings(0, 50, 0, 0.0, 100.0)

readings = st.builds(
    Readings,
    current=st.integers(0, 2),
    hold=st.integers(1, 1000),
    waiting=st.integers(0, 10_000),
    waited_ms=st.floats(0, 1e4),
    deadline_ms=st.floats(1, 1e3),
    latency_ms=st.floats(0, 1e4),
    arrivals_per_s=st.floats(0, 1e4),
    dispersion=st.floats(0, 16),
    slowdown=st.floats(0.5, 4),
    stall_ms=st.floats(0, 100),
    opening_ms=st.floats(0, 1e3),
    cpu=st.none() | st.floats(0, 1),
    headroom_bytes=st.none() | st.integers(0, 10**11),
    temperature_c=st.none() | st.floats(0, 120),
    throttled=st.booleans(),
    watts=st.none() | st.floats(0, 500),
)


@given(readings)
def test_every_policy_is_a_pure_function_that_names_a_precision_of_the_ladder(found):
    for policy in (fixed("bf16"), threshold(), most_accurate()):
        wanted = policy(found, LADDER)
        assert 0 <= place(LADDER, wanted) < 3
        assert policy(found, LADDER) == wanted


def test_without_load_the_most_precise_serves():
    for policy in (threshold(), most_accurate()):
        assert policy(IDLE, LADDER) == "fp32"


def test_where_all_is_late_the_fastest_serves():
    late = IDLE._replace(waiting=200, waited_ms=300.0, latency_ms=300.0, arrivals_per_s=900.0)
    assert most_accurate()(late, LADDER) == "int8"
    steps = threshold()
    assert [steps(late._replace(current=i), LADDER) for i in range(3)] == ["bf16", "int8", "int8"]


@given(readings, st.integers(1, 500))
def test_more_waiting_never_makes_accuracy_want_a_more_precise_rung(found, more):
    policy = most_accurate()
    before = place(LADDER, policy(found, LADDER))
    after = place(LADDER, policy(found._replace(waiting=found.waiting + more), LADDER))
    assert after >= before or found.hold > found.waiting + 1  # until then, more that wait are fewer that come by chance


@given(readings)
def test_a_threshold_policy_does_not_flap_while_readings_stand_still(found):
    policy, seen = threshold(), []
    for _ in range(6):
        seen.append(found.current)
        found = found._replace(current=place(LADDER, policy(found, LADDER)))
    steps = [after - before for before, after in itertools.pairwise(seen)]
    assert all(step >= 0 for step in steps) or all(step <= 0 for step in steps)


@given(st.floats(0, 1), st.integers(0, 1))
def test_between_its_bounds_a_pressure_changes_nothing(share, current):
    band = BANDS[0]
    latency = IDLE.deadline_ms * (band.low + share * (band.high - band.low))
    assert threshold((band,))(IDLE._replace(latency_ms=latency, current=current), LADDER) == LADDER[current].precision


def test_the_rung_that_serves_is_kept_longer_than_another_is_taken():
    policy = most_accurate()
    load = IDLE._replace(waiting=40, waited_ms=60.0, arrivals_per_s=600.0)
    assert policy(load, LADDER[::2]) == "fp32"
    assert policy(load._replace(current=1), LADDER[::2]) == "int8"


def test_peak_of_a_queue_is_what_adding_up_gives():
    load = IDLE._replace(waiting=9, waited_ms=5.0)
    for hold in range(1, 11):
        ages = [5.0 * (1 - k / 10) for k in range(10)]
        ends = [2.0 * min(k, hold) + 1.0 * max(0, k - hold) for k in range(1, 11)]
        exact = max(age + end for age, end in zip(ages, ends, strict=True))
        assert exact <= peak_ms(load, LADDER, 0, hold, 0.0) <= exact + 0.5


def test_peak_of_requests_to_come_grows_by_the_overload():
    # 500 a second are served, 800 come: after 50, 50 x 2 ms have gone, and the fiftieth came after 49 / 0.8 ms
    load = IDLE._replace(arrivals_per_s=800.0)
    assert peak_ms(load, LADDER, 0, 50, 0.0) == pytest.approx(50 * 2.0 - 49 / 0.8)


def test_slack_is_kingmans_and_has_no_end_at_full_load():
    load = IDLE._replace(arrivals_per_s=500.0, dispersion=4.0)
    assert slack_ms(load, LADDER) == pytest.approx(4.0 * 0.5 * 1.0 / (2 * 0.5))
    assert slack_ms(load._replace(arrivals_per_s=1000.0), LADDER) == math.inf


def test_where_stalls_may_come_less_of_the_deadline_is_spent():
    load = IDLE._replace(waiting=40, waited_ms=20.0, arrivals_per_s=600.0)
    policy = most_accurate()
    assert policy(load, LADDER[::2]) == "fp32"
    assert policy(load._replace(stall_ms=60.0), LADDER[::2]) == "int8"


@pytest.mark.parametrize(
    ("limits", "over", "eased"),
    [
        (Limits(temperature_c=80), {"temperature_c": 81.0}, {"temperature_c": 75.0}),
        (Limits(watts=10), {"watts": 10.5}, {"watts": 9.4}),
        (Limits(headroom_bytes=10**8), {"headroom_bytes": 9 * 10**7}, {"headroom_bytes": 11 * 10**7}),
        (Limits(), {"throttled": True}, {"throttled": False}),
    ],
)
def test_above_a_limit_only_the_fastest_serves_until_it_is_well_below(limits, over, eased):
    policy = most_accurate(limits=limits)
    assert policy(IDLE._replace(**over), LADDER) == "int8"
    assert policy(IDLE._replace(**over, current=2), LADDER) == "int8"
    assert policy(IDLE._replace(**eased, current=2), LADDER) == "fp32"


def test_policies_have_names():
    assert named("fixed:int8")(IDLE, LADDER) == "int8"
    assert named("accuracy")(IDLE, LADDER) == named("threshold")(IDLE, LADDER) == "fp32"
    with pytest.raises(UnknownNameError, match="did you mean 'accuracy'"):
        named("acuracy")
    with pytest.raises(ConfigError, match="fixed:int8"):
        named("fixed")
    with pytest.raises(UnknownNameError, match="did you mean 'int8'"):
        place(LADDER, "int4")
