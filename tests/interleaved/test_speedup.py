from __future__ import annotations

import numpy as np
import pytest

from edgeprune.interleaved.speedup import compare


def test_a_candidate_that_always_takes_half_as_long_is_twice_as_fast():
    # whatever disturbs a round disturbs both
    rounds = [[[1.0 * n, 1.1 * n, 9.0 * n] for n in range(7 * restart + 1, 7 * restart + 8)] for restart in range(6)]
    found = compare(rounds, [[[ms / 2 for ms in part] for part in restart] for restart in rounds])
    assert found is not None
    assert (found.estimate, found.low, found.high) == pytest.approx((2, 2, 2))


def test_the_interval_of_six_restarts_is_from_the_least_to_the_greatest_and_outlying_rounds_do_not_count():
    ratios = [1.9, 2.3, 2.1, 2.0, 2.2, 1.8]
    found = compare([[[ratio]] * 6 + [[50.0]] for ratio in ratios], [[[1.0]] * 7] * 6)
    assert found is not None
    assert (found.estimate, found.low, found.high) == pytest.approx((2.05, 1.8, 2.3))


def test_the_interval_covers_the_true_ratio_although_the_rounds_of_a_restart_resemble_each_other():
    """Restarts differ by 5 %, rounds by 1 %: an interval over 42 pooled rounds would hold the truth far too rarely.

    For six restarts theory says 1 - 2 / 2^6 = 96.9 %; two standard errors of 300 draws are 2.0 %.
    """
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        ratios = random.normal(3, 0.15, (6, 1)) + random.normal(0, 0.03, (6, 7))
        found = compare([[[ratio] for ratio in restart] for restart in ratios], [[[1.0]] * 7] * 6)
        assert found is not None
        covered += found.low <= 3 <= found.high
    assert covered / 300 == pytest.approx(0.969, abs=0.02)


def test_fewer_than_six_restarts_make_no_interval():
    assert compare([[[1.0]] * 100] * 5, [[[1.0]] * 100] * 5) is None
