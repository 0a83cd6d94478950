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
    assert [one.verdict for one in same] == ["no difference"] * TIMES, list(map(noise.told, same))
    assert [one.verdict for one in more] == ["slower"] * TIMES, list(map(noise.told, more))
    assert all(one.speedup.confidence == 0.99 for one in (*same, *more))
    assert time.monotonic() - begin < 2 * TIMES * 120
