from dataclasses import replace

import pytest

from edgeprune.bundle import open_bundle
from edgeprune.errors import MissingError
from edgeprune.pipeline.limits import with_limits
from edgeprune.pipeline.peaks import known_peaks, peaks, peaks_file
from edgeprune.report.document import document
from edgeprune.results import read_measured
from edgeprune.targets.load import load_target

CPU = load_target("cpu")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The peaks of this machine, and the cache's root in which they are kept."""
    root = tmp_path_factory.mktemp("cache")
    return peaks(CPU, root, seconds=0.05), root


def test_every_precision_of_the_runtimes_has_a_peak(found):
    most, _ = found
    assert set(most.ops_per_s) == {"fp32", "int8", "bf16"}
    assert all(1e8 < one < 1e15 for one in most.ops_per_s.values())
    rates = [rate for _, rate in most.bytes_per_s]
    assert rates == sorted(rates, reverse=True)


def test_they_are_measured_once(found):
    most, root = found
    assert peaks(CPU, root) == most


def test_what_is_damaged_is_as_if_it_were_not_there(found, bundles, tmp_path):
    environment = read_measured(bundles["cpu"] / "measured.json").baseline.environment
    assert known_peaks(tmp_path, environment) is None
    path = peaks_file(tmp_path, environment)
    path.parent.mkdir()
    path.write_text("torn")
    assert known_peaks(tmp_path, environment) is None


def test_each_variant_is_told_how_near_it_is_to_the_limit(found, bundles):
    bundle = open_bundle(bundles["cpu"])
    measured = with_limits(read_measured(bundle.measured_path), bundle, found[0])
    for one in (measured.baseline, *measured.measurements):
        assert one.limit is not None
        assert one.limit.operations > 0
        assert 0 < one.limit_share < 1
    assert measured.peaks == found[0]
    told = document(measured)["variants"][0]
    limit, p50_ms = measured.measurements[0].limit, measured.measurements[0].percentile_ms(50)
    assert told["gops"] == pytest.approx(limit.operations / p50_ms / 1e6)
    assert told["limit_share"] == pytest.approx(limit.ms / p50_ms)
    int8, fp32 = (next(one for one in measured.measurements if one.precision == name) for name in ("int8", "fp32"))
    assert int8.limit.operations == fp32.limit.operations
    assert int8.limit.bytes < fp32.limit.bytes
    assert 0 < int8.estimated_joules < fp32.estimated_joules


def test_without_peaks_only_energy_is_estimated(bundles):
    one = with_limits(read_measured(bundles["cpu"] / "measured.json"), open_bundle(bundles["cpu"]), None).baseline
    assert one.limit is None
    assert one.estimated_joules > 0


def test_what_was_not_timed_has_no_limit(found, bundles):
    bundle = open_bundle(bundles["cpu"])
    measured = read_measured(bundle.measured_path)
    measured = replace(measured, baseline=replace(measured.baseline, unmeasured="no device"))
    assert with_limits(measured, bundle, found[0]).baseline.limit is None


def test_without_a_runtime_there_is_no_peak(tmp_path):
    nothing = CPU.model_copy(update={"backends": {"tensorrt": CPU.backends["ort"]}})
    with pytest.raises(MissingError, match="no runtime of it tells the peaks of this machine"):
        peaks(nothing, tmp_path)
