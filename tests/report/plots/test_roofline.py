from __future__ import annotations

import dataclasses
from xml.etree import ElementTree as ET

from edgeprune.report.plots.roofline import roofline
from edgeprune.roofline import Limit, Peaks


def texts(svg):
    return [text for node in ET.fromstring(svg).iter() if (text := (node.text or "").strip())]


def test_every_variant_with_a_limit_says_how_much_of_it_is_reached(source):
    shown = texts(roofline(source.measured))
    share = round(100 * 0.01 / source.measured.measurements[1].percentile_ms(50))
    assert f"ort-int8 {share} %" in shown
    assert not any(text.startswith("tensorrt") for text in shown)  # it was not timed


def test_what_has_no_limit_or_does_nothing_is_left_out(measured):
    idle = dataclasses.replace(measured.baseline, limit=Limit(0.1, 0, 0, "memory"))
    assert roofline(dataclasses.replace(measured, baseline=idle, measurements=())) is None
    assert roofline(measured) is None


def test_peaks_stand_behind_for_what_is_computed_in_them_alone(source):
    peaks = Peaks({"fp32": 1e11, "int8": 4e11, "bf16": 2e11}, {}, ((1 << 10, 1e11), (1 << 30, 1e10)), "")
    plain, roofed = (texts(roofline(dataclasses.replace(source.measured, peaks=one))) for one in (None, peaks))
    assert {"fp32", "int8"} <= set(roofed)
    assert not {"fp32", "int8"} & set(plain)
    assert "bf16" not in roofed  # no variant is in it
