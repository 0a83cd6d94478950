from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.metrics import (
    agreement,
    bootstrap,
    f1,
    matthews,
    mean_interval,
    order_statistic_interval,
    paired_drop,
    pearson,
    snr_db,
    span_f1,
    spans_equal,
    spearman,
    top1,
    wilson,
)

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


# Worked by hand: of four found two are right, of three right two are found.
FOUND, RIGHT = [1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 1, 0, 0, 0]


def test_f1_weighs_what_is_found_against_what_is_right():
    assert f1(FOUND, RIGHT) == pytest.approx(2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3))
    assert f1([0, 0], [0, 1]) == 0


def test_matthews_of_two_classes_is_his_formula():
    both, only_found, only_right, neither = 2, 2, 1, 3
    spread = (both + only_found) * (both + only_right) * (neither + only_found) * (neither + only_right)
    assert matthews(FOUND, RIGHT) == pytest.approx((both * neither - only_found * only_right) / math.sqrt(spread))


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=60))
def test_matthews_of_two_classes_is_their_linear_correlation(pairs):
    found, right = np.array(pairs).T
    assert matthews(found, right) == pytest.approx(pearson(found, right), abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60), st.permutations(range(4)))
def test_matthews_does_not_ask_what_classes_are_called(pairs, names):
    found, right = np.array(pairs).T
    renamed = np.array(names)
    assert matthews(renamed[found], renamed[right]) == pytest.approx(matthews(found, right), abs=1e-9)
    assert -1 - 1e-9 <= matthews(found, right) <= 1 + 1e-9


floats = st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=3, max_size=40)


@given(floats)
def test_pearson_is_the_correlation_of_numpy(pairs):
    a, b = np.array(pairs).T.round(3)
    if np.ptp(a) and np.ptp(b):
        assert pearson(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-6)
    assert pearson(a, np.ones(len(a))) == 0


@given(floats)
def test_spearman_looks_at_the_order_only(pairs):
    a, b = np.array(pairs).T.round(3)
    assert spearman(a, b) == pytest.approx(spearman(np.exp(a / 50), b), abs=1e-9)
    assert spearman(a, b) == pytest.approx(-spearman(-a, b), abs=1e-9)


def test_equal_values_share_their_rank():
    # Ranks of a: 1, 2.5, 2.5, 4.
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(pearson([1, 2.5, 2.5, 4], [1, 2, 3, 4]))


def test_correlations_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    a, b = random.integers(0, 9, 200), random.normal(size=200)
    assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b)[0])
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b)[0])


@pytest.mark.parametrize(
    ("answer", "right", "exact", "overlap"),
    [
        ("The Cat!", ["cat"], True, 1),  # neither case, articles nor punctuation
        ("cat  sat", ["a cat sat"], True, 1),
        ("the cat sat on a mat", ["cat sat"], False, 2 * (2 / 4) * 1 / (2 / 4 + 1)),
        ("cat cat", ["cat"], False, 2 * (1 / 2) * 1 / (1 / 2 + 1)),  # a word counts as often as it is there
        ("dog", ["cat", "the dog"], True, 1),  # the answer that fits best
        ("", ["cat"], False, 0),
        ("U.S.", ["us"], True, 1),
        ("anthem", ["them"], False, 0),  # articles are words
    ],
)
def test_answers_are_compared_as_squad_does(answer, right, exact, overlap):
    assert spans_equal([answer], [right]).tolist() == [exact]
    assert span_f1([answer], [right]).tolist() == [pytest.approx(overlap)]


def test_drawing_rows_anew_gives_the_interval_of_a_mean():
    values = np.random.default_rng(0).normal(size=400)
    drawn, known = bootstrap(lambda rows: values[rows].mean(), 400), mean_interval(values)
    assert drawn.estimate == pytest.approx(known.estimate)
    assert drawn.low == pytest.approx(known.low, abs=0.03)
    assert drawn.high == pytest.approx(known.high, abs=0.03)
    assert drawn == bootstrap(lambda rows: values[rows].mean(), 400)


def test_the_interval_of_a_mean_holds_its_level():
    random = np.random.default_rng(0)
    found = [mean_interval(random.exponential(size=200)) for _ in range(400)]
    assert sum(one.low <= 1 <= one.high for one in found) / 400 == pytest.approx(0.95, abs=0.03)
    assert mean_interval([3.0]).high == math.inf
