from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import ConfigError
from edgeprune.prune.dynamic.exchange import Pattern, exchanged, first_active


def test_the_weakest_go_and_the_largest_gradients_come():
    weight = torch.tensor([[5.0, 0.1, -0.2, 4.0, 0.0, 0.0]])
    gradient = torch.tensor([[9.0, 0.0, 0.1, 9.0, -3.0, 2.0]])
    after = exchanged(weight != 0, weight.abs(), gradient, 2, 2, None)
    assert after.tolist() == [[True, False, False, True, True, True]]


def test_what_was_just_dropped_may_come_back():
    weight = torch.tensor([[5.0, 0.1, 0.0]])
    gradient = torch.tensor([[0.0, 7.0, 1.0]])
    assert exchanged(weight != 0, weight.abs(), gradient, 1, 1, None).tolist() == [[True, True, False]]


@given(seed=st.integers(0, 1000), drop=st.integers(0, 20), grow=st.integers(0, 20))
def test_as_many_are_active_as_the_counts_say(seed, drop, grow):
    torch.manual_seed(seed)
    weight, gradient = torch.randn(8, 4, 3, 3), torch.randn(8, 4, 3, 3)
    active = first_active(weight.abs(), 40, None)
    assert int(active.sum()) == 40
    after = exchanged(active, weight.abs(), gradient, drop, grow, None)
    assert int(after.sum()) == 40 - drop + grow


@given(seed=st.integers(0, 1000), drop=st.integers(0, 72), shape=st.sampled_from([(8, 8, 3, 3), (9, 16), (4, 12, 3)]))
def test_two_of_each_four_inputs_stay_whatever_goes(seed, drop, shape):
    torch.manual_seed(seed)
    weight, gradient, pattern = torch.randn(shape), torch.randn(shape), Pattern(2, 4)
    active = first_active(weight.abs(), weight.numel() // 2, pattern)
    after = exchanged(active, weight.abs(), gradient, min(drop, weight.numel() // 2), 0, pattern)
    for one in (active, after):
        for start in range(0, shape[1], 4):
            assert (one[:, start : start + 4].sum(1) == 2).all()
    smallest_kept = torch.where(active, weight.abs(), torch.inf)[:, :4].amin(1)
    largest_gone = torch.where(active, -torch.inf, weight.abs())[:, :4].amax(1)
    assert (smallest_kept >= largest_gone).all()


@pytest.mark.parametrize("text", ["4:2", "2", "a:b", "0:4", "4:4"])
def test_a_pattern_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="write how many of how many weights stay, as 2:4"):
        Pattern.parse(text)
