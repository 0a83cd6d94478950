from __future__ import annotations

import dataclasses
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.metrics import Interval
from edgeprune.report.plots.tradeoff import Point, accuracy_against_latency, front, overall


def texts(svg):
    return [text for node in ET.fromstring(svg).iter() if (text := (node.text or "").strip())]


def test_every_timed_variant_is_named(measured):
    shown = texts(accuracy_against_latency(measured))
    assert {"baseline", "ort-fp32", "ort-int8", "openvino-fp32", "openvino-int8"} <= set(shown)
    assert "tensorrt-int8" not in shown


def test_the_axis_is_called_after_the_metric(measured):
    assert "accuracy, %" in texts(accuracy_against_latency(measured))
    f1 = tuple(dataclasses.replace(one, metric="f1") for one in measured.baseline.accuracy)
    alone = dataclasses.replace(measured.baseline, accuracy=f1)
    assert "F1, %" in texts(accuracy_against_latency(dataclasses.replace(measured, baseline=alone, measurements=())))


@pytest.mark.parametrize("interval", [Interval(1.0, 0.99, 1 - 1e-16), Interval(0.5, 0.6, 0.7), Interval(0.5, 0.3, 0.4)])
def test_an_interval_beside_its_estimate_can_be_drawn(measured, interval):
    accuracy = tuple(dataclasses.replace(one, value=interval) for one in measured.baseline.accuracy)
    odd = dataclasses.replace(measured.baseline, accuracy=accuracy)
    assert accuracy_against_latency(dataclasses.replace(measured, baseline=odd)) is not None


@given(st.lists(st.tuples(st.floats(0.01, 1e3), st.floats(0, 1)), min_size=1, max_size=30))
def test_the_front_is_what_nothing_beats_in_both(places):
    found = [Point(str(i), None, ms, Interval(right, right, right), "") for i, (ms, right) in enumerate(places)]
    best = front(found)
    assert best
    for point in found:
        beaten = any(
            other.latency_ms <= point.latency_ms
            and other.accuracy.estimate >= point.accuracy.estimate
            and (other.latency_ms, other.accuracy.estimate) != (point.latency_ms, point.accuracy.estimate)
            for other in found
        )
        twin = any((one.latency_ms, one.accuracy) == (point.latency_ms, point.accuracy) for one in best)
        assert beaten != twin


def test_bundles_side_by_side_have_their_own_names(measured):
    shown = texts(overall([("first", measured), ("second", measured)]))
    assert "first" in shown
    assert "first, baseline" in shown


def test_of_many_bundles_those_on_the_front_are_named(measured):
    def slower(times):
        records = [
            dataclasses.replace(one, samples_ms=tuple(tuple(times * ms for ms in run) for run in one.samples_ms))
            for one in (measured.baseline, *measured.measurements)
        ]
        return dataclasses.replace(measured, baseline=records[0], measurements=tuple(records[1:]))

    shown = texts(overall([(f"net{i}", slower(1 + i)) for i in range(20)]))
    assert "net0" in shown
    assert "net7" not in shown
