from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from edgeprune.pipeline.departure import MOST_DB, Signal, channel_snr_db, first_departing


def signals(*snr_db: float) -> list[Signal]:
    return [Signal(f"layer{number}", one) for number, one in enumerate(snr_db)]


def test_the_first_layer_that_falls_is_the_one_and_none_behind_it_is_asked_for():
    def rest():
        raise AssertionError("asked for")
        yield

    found = first_departing(chain(signals(35, 30, -2), rest()))
    assert found == Signal("layer2", -2)


def test_rounding_that_adds_up_is_no_fault():
    assert first_departing(signals(35, 28, 22, 15, 9, 4, 1)) is None


def test_of_four_bits_less_is_expected():
    found = signals(35, 8)
    assert first_departing(found) == found[1]
    assert first_departing(found, {"layer1"}) is None
    assert first_departing(signals(35, 2), {"layer1"})


def test_what_follows_a_fault_is_not_the_first():
    found = first_departing(signals(35, 1, -3, -20))
    assert found is not None
    assert found.layer == "layer1"


def test_where_every_layer_is_right_there_is_none():
    assert first_departing(signals(120, 110, 300)) is None
    assert first_departing([]) is None


@pytest.mark.parametrize("channels", [4, 64, 1024])
@pytest.mark.parametrize("axis", [1, -1])
def test_a_swap_of_two_channels_shows_however_many_there_are(channels, axis):
    """Of two equal, independent channels the difference has twice the energy of one: -3 dB."""
    random = np.random.default_rng(0)
    right = random.normal(size=(4, channels, 200))
    swapped = right.copy()
    swapped[:, [0, 2]] = right[:, [2, 0]]
    if axis == -1:
        right, swapped = right.transpose(0, 2, 1), swapped.transpose(0, 2, 1)
    assert channel_snr_db(right, swapped, axis) == pytest.approx(-3, abs=0.6)


def test_noise_in_all_channels_is_as_large_as_it_is():
    random = np.random.default_rng(0)
    right = random.normal(size=(50, 8, 1000))
    found = channel_snr_db(right, right + random.normal(0, 0.01, right.shape), 1)
    assert found == pytest.approx(40, abs=0.2)


def test_what_is_no_number_or_of_another_shape_is_as_far_as_can_be():
    right = np.ones((2, 3))
    assert channel_snr_db(right, right, 1) == MOST_DB
    assert channel_snr_db(right, right * np.nan, 1) == -MOST_DB
    assert channel_snr_db(right, np.ones((2, 4)), 1) == -MOST_DB
    assert channel_snr_db(np.float32(2.0), np.float32(2.0), -1) == MOST_DB
