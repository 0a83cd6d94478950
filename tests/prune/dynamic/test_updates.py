from __future__ import annotations

import math

import pytest

from edgeprune.errors import ConfigError
from edgeprune.prune.dynamic.updates import Updates


def due(updates):
    return [step for step in range(updates.steps + 1) if updates.is_due(step)]


def test_the_fine_one_drops_along_a_cosine_and_ends_at_three_quarters():
    """Evci et al. 2020: f(t) = a/2 (1 + cos(pi t / T))."""
    updates = Updates("fine", 1000, every=100)
    assert due(updates) == [100, 200, 300, 400, 500, 600, 700]
    for step in due(updates):
        assert updates.dropped(step, 10_000, 10_000) == round(10_000 * 0.15 * (1 + math.cos(math.pi * step / 750)))
        assert updates.active(step, 0.9) == pytest.approx(0.1)


def test_the_coarse_one_of_the_study_ends_at_half():
    """50 epochs, every 10: drop 0.2, grow 0.2 of the dropped: 0.84^4 = 0.498, held at the 0.5 that is asked for."""
    updates = Updates("coarse", 500, every=100, drop=0.2, regrow=0.2)
    assert due(updates) == [100, 200, 300, 400]
    updates.check(0.5)
    assert [updates.active(step, 0.5) for step in (0, 99, 100, 200, 300, 400)] == pytest.approx(
        [1, 1, 0.84, 0.84**2, 0.84**3, 0.5]
    )
    assert updates.dropped(100, 1000, 840) == 200


def test_once_it_is_there_the_coarse_one_grows_what_it_drops():
    updates = Updates("coarse", 1000, every=100, drop=0.2, regrow=0.2)
    assert updates.active(800, 0.5) == 0.5
    assert updates.dropped(800, 500, 500) == 100


def test_a_coarse_one_may_end_where_the_sparsity_is_reached():
    updates = Updates("coarse", 1000, every=50, drop=0.2, regrow=0.2, until=0.51)
    assert due(updates) == [*range(50, 501, 50)]
    updates.check(0.8)
    assert updates.active(450, 0.8) == pytest.approx(0.84**9)
    assert [updates.active(step, 0.8) for step in (500, 501, 999)] == pytest.approx([0.2] * 3)
    with pytest.raises(ConfigError, match=r"sparsity 0\.9 cannot be reached in 10 updates"):
        updates.check(0.9)


def test_one_shot_is_due_once_and_static_never():
    assert due(Updates("one-shot", 100, every=30)) == [30]
    assert [Updates("one-shot", 100, every=30).active(step, 0.9) for step in (29, 30)] == pytest.approx([1, 0.1])
    assert due(Updates("static", 100)) == []


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"every": 0}, "every 0 steps: the interval must be 1 or more"),
        ({"every": 100}, r"every 100 steps do not fit into 75 steps of training: train longer"),
        ({"kind": "coarse", "every": 100}, "every 100 steps do not fit into 100 steps"),
        ({"kind": "one-shot", "every": 200}, "every 200 steps do not fit into 100 steps"),
        ({"drop": 1.0}, "fractions lie between 0 and 1: drop 1"),
        ({"until": 0.0}, "until 0"),
    ],
)
def test_what_cannot_be_is_refused(how, message):
    with pytest.raises(ConfigError, match=message):
        Updates(**{"kind": "fine", "steps": 100, "every": 10} | how)


def test_a_sparsity_that_the_updates_do_not_reach_is_refused():
    with pytest.raises(
        ConfigError, match=r"sparsity 0\.5 cannot be reached in 2 updates .*: 0\.2944 can: train longer"
    ):
        Updates("coarse", 30, every=10, drop=0.2, regrow=0.2).check(0.5)
