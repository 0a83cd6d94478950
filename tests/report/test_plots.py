from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree as ET

import pytest

from edgeprune.metrics import Interval
from edgeprune.report.plots import accuracy_against_latency, latency_distribution

PLOTS = (accuracy_against_latency, latency_distribution)


@pytest.mark.parametrize("plot", PLOTS)
def test_a_plot_is_svg_that_names_every_timed_variant_in_text(plot, measured):
    root = ET.fromstring(plot(measured))
    texts = {text for node in root.iter() if (text := (node.text or "").strip())}
    assert {"baseline", "ort-fp32", "ort-int8", "openvino-fp32", "openvino-int8"} <= texts
    assert "tensorrt-int8" not in texts


@pytest.mark.parametrize("plot", PLOTS)
def test_a_plot_takes_its_ink_from_the_page_and_paints_no_ground(plot, measured):
    svg = plot(measured)
    assert "currentColor" in svg
    assert not re.search(r"#0{6}|#f{6}", svg)


@pytest.mark.parametrize("plot", PLOTS)
def test_a_plot_of_the_same_measurements_is_the_same(plot, measured):
    assert plot(measured) == plot(measured)


@pytest.mark.parametrize("plot", PLOTS)
def test_there_is_no_plot_where_nothing_was_timed(plot, measured):
    never = dataclasses.replace(measured.baseline, samples_ms=())
    assert plot(dataclasses.replace(measured, baseline=never, measurements=measured.measurements[-1:])) is None


def test_identical_runs_can_be_drawn(measured):
    still = dataclasses.replace(measured.baseline, samples_ms=((0.5,) * 800,))
    assert latency_distribution(dataclasses.replace(measured, baseline=still, measurements=())) is not None


@pytest.mark.parametrize("interval", [Interval(1.0, 0.99, 1 - 1e-16), Interval(0.5, 0.6, 0.7), Interval(0.5, 0.3, 0.4)])
def test_an_interval_beside_its_estimate_can_be_drawn(measured, interval):
    accuracy = tuple(dataclasses.replace(one, value=interval) for one in measured.baseline.accuracy)
    odd = dataclasses.replace(measured.baseline, accuracy=accuracy)
    assert accuracy_against_latency(dataclasses.replace(measured, baseline=odd)) is not None
