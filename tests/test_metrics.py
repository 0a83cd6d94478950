from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.metrics import agreement, order_statistic_interval, paired_drop, snr_db, top1, wilson

counts = st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_the_top_class_is_the_one_with_the_highest_score():
    assert top1([[0.1, 0.7, 0.2], [3.0, -1.0, 2.0]]).tolist() == [1, 0]


@given(counts)
def test_a_wilson_interval_lies_within_zero_and_one_and_holds_its_estimate(count):
    interval = wilson(*count)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


@pytest.mark.parametrize("all_right", [False, True])
def test_a_wilson_interval_holds_an_estimate_of_zero_or_one_in_spite_of_rounding(all_right):
    for n in range(1, 2001):
        interval = wilson(n if all_right else 0, n)
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_the_wilson_interval_is_where_the_score_test_stops_rejecting():
    # Its bounds p solve |p^ - p| = z sqrt(p (1 - p) / n), by definition (Wilson, 1927).
    interval = wilson(45, 50)
    for bound in (interval.low, interval.high):
        assert abs(0.9 - bound) == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / 50), rel=1e-5)


def test_more_confidence_makes_a_wider_interval():
    assert wilson(90, 100, 0.99).low < wilson(90, 100, 0.95).low


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_a_drop_is_the_difference_of_the_two_accuracies(pairs):
    reference, candidate = np.array(pairs, bool).T
    drop = paired_drop(reference, candidate)
    assert drop.estimate == pytest.approx(reference.mean() - candidate.mean())
    assert drop.low < drop.high


def test_a_model_compared_with_itself_loses_nothing():
    right = np.array([True] * 90 + [False] * 10)
    drop = paired_drop(right, right)
    assert drop.estimate == 0
    assert drop.low == pytest.approx(-drop.high)


def test_the_drop_interval_holds_its_level():
    # 2 % right only in the reference, 1 % only in the candidate: the interval must cover the true drop of one point
    # about as often as it says. 400 draws of 1,000 samples: two standard errors are 2.2 %.
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        draw = random.random(1000)
        interval = paired_drop(draw >= 0.01, (draw < 0.01) | (draw >= 0.03))
        covered += interval.low <= 0.01 <= interval.high
    assert covered / 400 == pytest.approx(0.95, abs=0.03)


def test_agreement_is_the_share_of_equal_answers():
    assert agreement([[1, 0], [0, 1], [1, 0], [0, 1]], [[2, 1], [0, 3], [0, 1], [0, 1]]) == 0.75


def test_a_tenth_of_the_amplitude_as_noise_is_twenty_decibels():
    signal = np.ones(100)
    assert snr_db(signal, signal + 0.1) == pytest.approx(20)
    assert snr_db(signal, signal) == math.inf


def test_too_few_samples_have_no_interval():
    assert order_statistic_interval([1.0, 2.0, 3.0]) is None  # 2 * 0.5^3 is already more than 5 %
    assert order_statistic_interval(range(6)) is not None  # 2 * 0.5^6 is not


@pytest.mark.parametrize(("q", "n"), [(0.5, 50), (0.9, 300), (0.99, 900)])
def test_an_order_statistic_interval_covers_the_true_quantile_at_least_as_often_as_it_says(q, n):
    random = np.random.default_rng(1)
    found = [order_statistic_interval(random.random(n), q) for _ in range(400)]
    covered = sum(interval is not None and interval.low <= q <= interval.high for interval in found)
    assert covered / 400 >= 0.95 - 0.022  # two standard errors of 400 draws


@given(st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=100))
def test_an_order_statistic_interval_holds_the_median_and_ends_at_samples(samples):
    interval = order_statistic_interval(samples)
    assert interval is not None
    assert interval.low <= interval.estimate <= interval.high
    assert {interval.low, interval.high} <= set(samples)
