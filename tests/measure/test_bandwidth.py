import pytest

from edgeprune.measure.bandwidth import bandwidth


@pytest.mark.parametrize("threads", [1, 2])
def test_memory_moves_within_what_is_possible(threads):
    small, large = bandwidth([1 << 16, 1 << 24], threads, seconds=0.02)
    assert 1e8 < large < 1e12
    assert small > large / 2  # a cache is not slower than what is behind it
