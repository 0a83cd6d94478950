from __future__ import annotations

import numpy as np
import pytest

from edgeprune.serving.arrivals import Arrivals


def seen(times: np.ndarray) -> Arrivals:
    arrivals = Arrivals()
    for at in times:
        arrivals.see(at, at, 0)
    return arrivals


def test_nothing_is_known_at_first():
    assert (Arrivals().per_s, Arrivals().dispersion) == (0.0, 1.0)
    assert seen(np.array([1.0, 1.0])).per_s == 0.0


def test_a_poisson_process_has_its_rate_and_a_dispersion_of_one():
    times = np.cumsum(np.random.default_rng(0).exponential(1 / 200, 5000))
    assert seen(times).per_s == pytest.approx(200, rel=0.3)
    assert seen(times).dispersion == pytest.approx(1, abs=0.3)


def test_even_arrivals_have_none_and_clumps_more():
    even = np.arange(2000) / 100
    assert seen(even).dispersion == pytest.approx(0, abs=1e-4)
    random = np.random.default_rng(0)
    clumps = np.repeat(np.cumsum(random.exponential(1 / 50, 1000)), random.geometric(1 / 4, 1000))
    # gaps of geometric clumps with mean m: (2 m - 1) times as varied as those of a Poisson process
    assert seen(clumps).dispersion == pytest.approx(7, rel=0.4)


def test_those_that_wait_count_as_come():
    arrivals = Arrivals()
    arrivals.see(0.0, 0.0, 0)
    arrivals.see(0.1, 1.0, 98)  # served one more after a second, while 98 others have come
    assert arrivals.per_s == pytest.approx(99)
