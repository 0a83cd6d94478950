from __future__ import annotations

from dataclasses import replace

import pytest

from edgeprune.errors import ConfigError
from edgeprune.interleaved.settings import Settings


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_time_in_which_nothing_can_be_measured_is_refused(seconds):
    with pytest.raises(ConfigError, match="takes a time above 0, and an end"):
        replace(Settings(), seconds=seconds)
    with pytest.raises(ConfigError, match="one restart, round, inference and query at least"):
        replace(Settings(), restarts=0)
