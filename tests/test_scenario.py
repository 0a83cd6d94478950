import math

import pytest

from edgeprune.errors import ConfigError
from edgeprune.scenario import ALONE, LOADGEN, SCENARIOS, Scenario


def test_every_scenario_of_mlperf_can_be_asked_for():
    for name in SCENARIOS:
        given = {"queries_per_s": 10.0, "deadline_ms": 15.0} if name == "server" else {}
        assert str(Scenario(name, LOADGEN, **given)).startswith(name)
    assert str(ALONE) == "single-stream"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "flood"}, "scenario 'flood': known are single-stream"),
        ({"name": "offline"}, "the built-in loop is for single-stream"),
        ({"name": "server", "driver": LOADGEN, "queries_per_s": 5.0}, "the deadline must be above 0: None"),
        ({"name": "server", "driver": LOADGEN, "deadline_ms": 5.0, "queries_per_s": 0.0}, "queries per second must be"),
        ({"name": "server", "driver": LOADGEN, "deadline_ms": math.nan, "queries_per_s": 1.0}, "deadline must be"),
        ({"name": "multi-stream", "driver": LOADGEN, "samples_per_query": 8, "batch": 3}, "cannot be answered 3 at a"),
        ({"batch": 0}, "one sample at least"),
    ],
)
def test_a_load_that_cannot_be_made_is_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        Scenario(**given)
