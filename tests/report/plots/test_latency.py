from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree as ET

from edgeprune.report.plots.latency import latency_distribution


def ticks(svg):
    """The numbers on the axis."""
    found = ET.fromstring(svg).iter()
    return [float(node.text) for node in found if re.fullmatch(r"\d+(\.\d+)?", (node.text or "").strip())]


def test_every_timed_variant_has_a_line(measured):
    texts = {text for node in ET.fromstring(latency_distribution(measured)).iter() if (text := (node.text or ""))}
    assert {"baseline", "ort-fp32", "ort-int8", "openvino-fp32", "openvino-int8"} <= texts
    assert "tensorrt-int8" not in texts


def test_identical_runs_can_be_drawn(measured):
    still = dataclasses.replace(measured.baseline, samples_ms=((0.5,) * 800,))
    assert latency_distribution(dataclasses.replace(measured, baseline=still, measurements=())) is not None


def test_a_busy_machine_does_not_flatten_the_shapes(measured):
    """Two in a hundred runs that take a hundred times as long lie beyond the plot."""
    runs = ((1.0,) * 392 + (100.0,) * 8,) * 3
    busy = dataclasses.replace(measured.baseline, samples_ms=runs)
    assert max(ticks(latency_distribution(dataclasses.replace(measured, baseline=busy, measurements=())))) < 4
