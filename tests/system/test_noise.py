"""Whether `bench --compare` tells 3 % more work from none on this machine; `benchmarks/noise.py` does it more often."""

from __future__ import annotations

import time

import pytest
from rich.console import Console

pytestmark = pytest.mark.system
TIMES = 3


@pytest.fixture(scope="module")
def noise(program):
    return program("noise")


def test_equal_networks_are_found_equal_and_one_with_3_percent_more_work_slower(noise, tmp_path):
    begin = time.monotonic()
    same, more = noise.trials(TIMES, TIMES, tmp_path, Console(stderr=True))
    # it may be wrong of one in 20 and of one in 10: of two in three it is by chance once in a hundred times
    assert sum(one.verdict == "no difference" for one in same) >= TIMES - 1, list(map(noise.told, same))
    assert sum(one.verdict == "slower" for one in more) >= TIMES - 1, list(map(noise.told, more))
    assert all(one.speedup.confidence == 0.99 for one in (*same, *more))
    assert time.monotonic() - begin < 2 * TIMES * 120
