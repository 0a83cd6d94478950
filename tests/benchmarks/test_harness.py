from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from edgeprune.bundle import open_bundle

pytest.importorskip("mlperf_loadgen", reason="LoadGen has no wheel here")


@pytest.fixture(scope="module")
def harness(program):
    return program("harness")


def test_our_latency_is_held_against_that_of_others_on_the_same_file(harness, bundles):
    found = harness.agreements(open_bundle(bundles["cpu"]), "ort-fp32", 1, 0.1, Console(quiet=True))
    assert [one.other for one in found] == ["the runtime directly", "LoadGen"]
    for one in found:
        assert one.ratio is None  # one restart makes no interval
        assert 0.2 < one.ours_ms / one.other_ms < 5  # a network of microseconds, of which the calls take the most


@pytest.mark.system
def test_benchmark_app_is_understood(harness, bundles, tmp_path):
    bundle = open_bundle(bundles["cpu"])
    variant = replace(bundle.variant("ort-fp32"), backend="openvino")
    site = harness.Site(bundle, variant, tmp_path, 1.0)
    site.write_inputs()
    assert list(site.others()) == ["the runtime directly", "benchmark_app"]
    assert 0 < site.directly() < 100
    assert 0 < site.by_benchmark_app() < 100
