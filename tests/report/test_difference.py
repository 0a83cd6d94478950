from __future__ import annotations

import dataclasses

import pytest

from edgeprune.bundle import open_bundle
from edgeprune.report.contents import measured_of
from edgeprune.report.difference import difference


@pytest.fixture
def pair(bundles):
    return [open_bundle(bundles[name]) for name in ("cpu", "narrow")]


def found(a, b, *, measured=True):
    return difference(a, b, *((measured_of(one) if measured else None) for one in (a, b)))


def named(changes, part):
    return {change.name: change for change in changes if change.part.startswith(part)}


def elsewhere(measured, **values):
    """The same measurements, as if they had been made in another environment."""
    moved = [
        dataclasses.replace(record, environment=dataclasses.replace(record.environment, **values))
        for record in (measured.baseline, *measured.measurements)
    ]
    return dataclasses.replace(measured, baseline=moved[0], measurements=tuple(moved[1:]))


def test_a_bundle_does_not_differ_from_itself(pair):
    same = found(pair[0], pair[0])
    assert same.same
    assert same.changes == same.not_compared == ()


def test_recipe_channels_sizes_and_files_are_compared(pair):
    changes = found(*pair).changes
    assert named(changes, "recipe").keys() == {"prune.keep"}
    assert named(changes, "channels")
    assert all(change.b < change.a for change in named(changes, "channels").values())
    assert named(changes, "sizes")["ort-int8"].note.endswith("x")
    assert "variants/ort-int8/model.onnx" in named(changes, "files")
    assert not named(changes, "splits")


def test_in_one_environment_latency_and_accuracy_are_compared(pair):
    comparison = found(*pair)
    assert comparison.not_compared == ()
    assert named(comparison.changes, "p50").keys() == {"baseline", "ort-fp32", "ort-int8"}
    assert {change.part for change in comparison.changes if change.part.startswith("accuracy")}


def test_a_variant_that_one_lacks_is_told_once(bundles):
    a, b = (open_bundle(bundles[name]) for name in ("cpu", "jetson"))
    changes = found(a, b).changes
    assert named(changes, "variants")["tensorrt-int8"].a is None
    assert [change.part for change in changes if change.name.startswith("tensorrt-int8")] == ["variants"]


def test_in_different_environments_what_differs_is_told_and_nothing_measured_is_compared(pair):
    a, b = pair
    there = elsewhere(measured_of(b), machine="another", versions={"numpy": "1.26"})
    comparison = difference(a, b, measured_of(a), there)
    assert not named(comparison.changes, "p50")
    assert not named(comparison.changes, "accuracy")
    (reason,) = comparison.not_compared
    assert "machine" in reason
    assert "versions.numpy" in reason


def test_a_load_that_passes_does_not_make_another_environment(pair):
    a, b = pair
    busy = elsewhere(measured_of(b), load_average=7.0)
    assert difference(a, b, measured_of(a), busy).not_compared == ()


def test_without_measurements_or_a_device_it_says_so(pair, bundles):
    assert found(*pair, measured=False).not_compared == (
        "accuracy and latency: A was not measured",
        "accuracy and latency: B was not measured",
    )
    jetson = open_bundle(bundles["jetson"])
    assert found(pair[0], jetson).not_compared == ("accuracy and latency: B was not run: no device",)


def test_accuracy_on_other_samples_is_not_compared(pair):
    a, b = pair
    other = dataclasses.replace(b.core.splits["report"], sha256="0" * 64)
    moved = dataclasses.replace(b, core=dataclasses.replace(b.core, splits=b.core.splits | {"report": other}))
    comparison = difference(a, moved, measured_of(a), measured_of(b))
    assert comparison.not_compared == ("accuracy on report: not the same samples",)
    assert not named(comparison.changes, "accuracy on report")
    assert named(comparison.changes, "splits").keys() == {"report"}


def test_a_layer_that_ran_in_something_else_is_a_change(pair):
    a, b = pair[0], pair[0]
    measured = measured_of(a)
    records = [
        dataclasses.replace(one, layers=tuple(dataclasses.replace(layer, effective="fp32") for layer in one.layers))
        for one in measured.measurements
    ]
    fallen = dataclasses.replace(measured, measurements=tuple(records))
    changes = named(difference(a, b, measured, fallen).changes, "precision that ran")
    assert changes["ort-int8 conv1"].b == "fp32"
    assert all(name.startswith("ort-int8") for name in changes)
