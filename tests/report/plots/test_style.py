"""What holds for every plot of a page."""

from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree as ET

import pytest

from edgeprune.report.figures import layer_pictures, pictures
from edgeprune.report.layers import layer_rows
from edgeprune.report.plots.style import BASELINE_HUE, BITS_HUES, HUES, SPARE_HUE, bits_hue
from edgeprune.report.source import Source

GROUNDS = {"light": "#ffffff", "dark": "#171b22"}
"""Of the page, as its template says."""


def drawn(source):
    rows = layer_rows(source.measured, source.core, source.predicted)
    return {picture.title: picture.svg for picture in (*pictures(source), *layer_pictures(source, rows))}


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_a_bundle_has_every_plot(source):
    assert list(drawn(source)) == [
        "Accuracy against latency",
        "How latency spreads",
        "What the files hold",
        "How near the machine's limit",
        "Plans that were tried",
        "Bits",
        "Sensitivity",
        "Time",
    ]


def test_every_plot_is_svg_that_says_what_it_is(source):
    for title, svg in drawn(source).items():
        root = ET.fromstring(svg)
        assert root.get("role") == "img", title
        assert len(root.get("aria-label")) > 10, title


def test_every_plot_takes_its_ink_from_the_page_and_paints_no_ground(source):
    for title, svg in drawn(source).items():
        assert "currentColor" in svg, title
        assert not re.search(r"#0{6}|#f{6}|#010203", svg), title


def test_plots_of_the_same_measurements_are_the_same(source):
    assert drawn(source) == drawn(source)


def test_a_lone_measurement_has_the_plots_that_it_can_have(measured):
    assert list(drawn(Source(measured))) == [
        "Accuracy against latency",
        "How latency spreads",
        "Time",
    ]


def test_there_is_no_plot_where_nothing_is_known(measured):
    never = dataclasses.replace(measured.baseline, samples_ms=(), layers=())
    bare = dataclasses.replace(measured, baseline=never, measurements=measured.measurements[-1:], default=None)
    assert drawn(Source(bare)) == {}


@pytest.mark.parametrize("ground", GROUNDS.values(), ids=GROUNDS)
@pytest.mark.parametrize("colour", sorted({*HUES.values(), *BITS_HUES.values(), SPARE_HUE, BASELINE_HUE}))
def test_marks_stand_out_from_light_and_dark_pages(colour, ground):
    """WCAG 2.2, 1.4.11: at least 3:1 for what is not text."""
    brighter, darker = sorted((luminance(colour), luminance(ground)), reverse=True)
    assert (brighter + 0.05) / (darker + 0.05) >= 3


@pytest.mark.parametrize(("bits", "width"), [(4, 4), (4.3, 8), (8, 8), (16, 16), (32, 32), (64, 32)])
def test_a_width_between_two_has_the_hue_of_the_wider(bits, width):
    assert bits_hue(bits) == BITS_HUES[width]
