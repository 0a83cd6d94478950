from __future__ import annotations

import dataclasses
import json

import pytest

from edgeprune.bundle import open_bundle
from edgeprune.cache import StageCache
from edgeprune.pipeline.layer_times import SHARES, with_layer_times
from edgeprune.report.summary import default, environment_of
from edgeprune.results import read_measured


@pytest.fixture
def bundle(bundles):
    return open_bundle(bundles["cpu"])


@pytest.fixture
def timed(bundle, tmp_path):
    """The measurements of a real bundle, with the times of its layers."""
    measured = read_measured(bundle.measured_path)
    return with_layer_times(measured, bundle, environment_of(measured), cache=StageCache(tmp_path / "cache"))


def test_layers_of_the_baseline_and_the_default_take_what_an_inference_takes(timed):
    for record in {timed.baseline.variant: timed.baseline, timed.default: default(timed)}.values():
        times = [layer.ms for layer in record.layers]
        assert all(ms > 0 for ms in times)
        assert 0.3 * record.percentile_ms(50) < sum(times) <= 1.001 * record.percentile_ms(50)


def test_others_have_none(timed):
    others = [one for one in timed.measurements if one.variant != timed.default]
    assert others
    assert {layer.ms for one in others for layer in one.layers} == {None}


def test_shares_are_of_the_whole_and_found_again(timed, bundle, tmp_path):
    (file,) = (tmp_path / "cache").glob(f"profile/*/{SHARES}")
    for shares in json.loads(file.read_bytes()).values():
        assert sum(shares.values()) == pytest.approx(1)
    stamp = file.stat().st_mtime_ns
    measured = read_measured(bundle.measured_path)
    again = with_layer_times(measured, bundle, environment_of(measured), cache=StageCache(tmp_path / "cache"))
    assert (again, file.stat().st_mtime_ns) == (timed, stamp)


def test_a_variant_that_cannot_be_profiled_has_no_times_and_loses_nothing_else(bundle, tmp_path):
    said = []

    class Said:
        def task(self, *_):
            raise AssertionError

        def say(self, text):
            said.append(text)

    measured = read_measured(bundle.measured_path)
    other = dataclasses.replace(measured.baseline, variant="gone")
    lost = dataclasses.replace(measured, baseline=other, default="gone")
    cache = StageCache(tmp_path / "cache")
    found = with_layer_times(lost, bundle, environment_of(measured), cache=cache, progress=Said())
    assert found == lost
    assert any("gone has no times by layer" in text for text in said)
