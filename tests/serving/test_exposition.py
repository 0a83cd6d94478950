from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from edgeprune.errors import InputError
from edgeprune.measure.condition import Condition
from edgeprune.serving.exposition import CONTENT_TYPE, Endpoint, exposition
from edgeprune.serving.policy import fixed
from edgeprune.serving.sampler import Sample

parser = pytest.importorskip("prometheus_client.parser")


def families(text: str) -> dict:
    return {family.name: family for family in parser.text_string_to_metric_families(text)}


@pytest.fixture
def session(served):
    one = served(fixed("int8"), (20, 10), deadline_ms=15.0)
    for waited_s in (0.0, 0.0, 0.1):
        one.infer(arrived_s=one.clock.now_s - waited_s)
    return one.session


def test_prometheus_own_parser_reads_what_was_counted(session):
    sample = Sample(0.0, Condition(0.5, None, 10**9, 51.0, throttled=False), 7.5)
    found = families(exposition(session, sample))
    requests = {one.labels["precision"]: one.value for one in found["edgeprune_requests"].samples}
    assert requests == {"fp32": 0, "int8": 3}
    assert found["edgeprune_missed"].samples[0].value == 1
    latency = found["edgeprune_latency_seconds"]
    assert latency.type == "histogram"
    buckets = [one.value for one in latency.samples if one.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 3
    assert latency.samples[-1].value == 3
    assert next(one.value for one in latency.samples if one.name.endswith("_sum")) == pytest.approx(0.13, rel=0.01)
    assert found["edgeprune_temperature_celsius"].samples[0].value == 51.0
    assert found["edgeprune_power_watts"].samples[0].value == 7.5
    assert "edgeprune_gpu_utilization_ratio" not in found


def test_the_endpoint_tells_the_same_on_this_machine_alone(session):
    with Endpoint(session, 0) as endpoint:
        with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics", timeout=5) as answer:
            assert answer.headers["Content-Type"] == CONTENT_TYPE
            assert answer.read().decode() == exposition(session)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/", timeout=5)
        with pytest.raises(InputError, match="choose another"):
            Endpoint(session, endpoint.port)
