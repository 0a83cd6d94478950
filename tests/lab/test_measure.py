from __future__ import annotations

import numpy as np
import pytest

from edgeprune.bundle import open_bundle
from edgeprune.errors import DeviceError
from edgeprune.lab.connect import held, transport
from edgeprune.lab.measure import EvaluationSet, measure_on
from edgeprune.results import read_measured
from edgeprune.transport.local import LocalTransport
from tests.lab.conftest import QUICK, simulated


@pytest.fixture
def measured(lab_of, tmp_path):
    """What a device here says of a bundle."""

    def measured(bundle, split=None, device=None):
        instance = lab_of(device or {"name": "here", "transport": "local"}).instances[0]
        way = transport(instance.device, tmp_path / "devices")
        with held(instance, way):
            return measure_on(instance, bundle, way, QUICK, evidence=tmp_path / "evidence", split=split)

    return measured


def test_a_variant_whose_answers_are_wrong_is_found_out_by_the_device(bundle_of, measured):
    wrong = measured(bundle_of(off=0.5)).measurements[0]
    assert wrong.unmeasured.startswith("self-check: its answers are")
    assert wrong.failed
    assert wrong.samples_ms == ()


def test_a_quantized_variant_that_is_far_off_is_a_warning(bundle_of, measured):
    (far,) = measured(bundle_of(off=2.0, precision="int8")).measurements
    assert far.samples_ms
    assert any("dB from the float graph's" in warning for warning in far.warnings)


def test_a_baseline_whose_answers_are_wrong_ends_the_job(bundle_of, measured):
    bundle = bundle_of()
    with np.load(bundle.root / "samples.npz") as file:
        arrays = dict(file)
    np.savez(bundle.root / "samples.npz", x=arrays["x"], y=arrays["y"] + 1)
    with pytest.raises(DeviceError, match="ort-fp32: self-check: its answers are"):
        measured(bundle)


def test_what_the_device_answered_is_kept(bundle, measured, tmp_path):
    measured(bundle)
    with np.load(tmp_path / "evidence" / "ort-fp32.npz") as found, np.load(bundle.root / "samples.npz") as expected:
        np.testing.assert_allclose(found["y"], expected["y"], atol=1e-5)


@pytest.mark.parametrize(
    ("device", "how"),
    [({"name": "here", "transport": "local", "emulated": True}, "emulated"), (simulated("one"), "simulated")],
)
def test_no_time_of_an_emulated_or_simulated_device_is_reported(bundle, measured, device, how):
    found = measured(bundle, device=device)
    for one in (found.baseline, *found.measurements):
        assert one.unmeasured == how
        assert (one.samples_ms, one.load_ms, one.speedup, one.peak_memory_bytes) == ((), (), None, None)
        assert one.environment is not None
        assert one.environment.emulated
        assert one.layers


def test_accuracy_is_the_devices_own_on_the_samples_it_was_sent_and_the_hosts_elsewhere(bundles, measured):
    bundle = open_bundle(bundles["cpu"])
    host = read_measured(bundle.measured_path).baseline
    sent = EvaluationSet(bundle, 10_000)
    found = measured(bundle, split=sent.split).baseline
    assert [(one.split, one.source) for one in found.accuracy] == [
        ("report", "measured"),
        ("select", "measured on the host"),
    ]
    assert found.accuracy[0].value == next(one.value for one in host.accuracy if one.split == "report")
    assert {one.source for one in measured(bundle).baseline.accuracy} == {"measured on the host"}


def test_an_evaluation_set_is_the_first_samples_and_equal_sets_are_equal_files(bundles):
    bundle = open_bundle(bundles["cpu"])
    sent, again, whole = EvaluationSet(bundle, 50), EvaluationSet(bundle, 50), EvaluationSet(bundle, 10_000)
    assert sent.split.judge is not None
    assert whole.split.judge is not None
    np.testing.assert_array_equal(sent.split.judge.truth, whole.split.judge.truth[:50])
    first, of_whole = next(sent.split.batches()), next(whole.split.batches())
    for name, array in first.items():
        np.testing.assert_array_equal(array, of_whole[name][:50])
    assert [one.read_bytes() for one in sent._parts] == [one.read_bytes() for one in again._parts]


def test_a_worker_that_dies_in_one_variant_leaves_the_others(bundle_of, measured, monkeypatch):
    bundle = bundle_of()
    (bundle.root / "ort-fp32-2" / "model.onnx").write_bytes(b"not an ONNX file")
    started, start = [], LocalTransport.start

    def counted(self, argv, **how):
        started.append(argv)
        return start(self, argv, **how)

    monkeypatch.setattr(LocalTransport, "start", counted)
    found = measured(bundle)
    assert found.baseline.samples_ms
    assert "ONNX" in found.measurements[0].unmeasured
    assert started
