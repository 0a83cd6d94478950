from __future__ import annotations

import itertools

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from edgeprune.report.plots.labels import RADIUS, label
from edgeprune.report.plots.style import STYLE, WIDTH


def boxes(named, others=()):
    """Where each name stands, in the pixels of an SVG, and the frame."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.3))
        axes = figure.add_subplot()
        axes.set_xlim(0, 10)
        axes.set_ylim(0, 10)
        label(figure, axes, named, others)
        figure.draw_without_rendering()
        return [text.get_window_extent() for text in axes.texts], axes.get_window_extent()


@pytest.mark.parametrize(
    "places",
    [
        [(5, 5), (5, 5.1), (5, 4.9)],
        [(1, 1), (1.2, 1), (1.1, 1.2), (9, 9), (9, 9.1)],
        [(0, 0), (10, 10), (0, 10), (10, 0)],
    ],
)
def test_names_cover_neither_each_other_nor_the_frame(places):
    named = [(f"openvino-int{i}", x, y, RADIUS) for i, (x, y) in enumerate(places)]
    found, frame = boxes(named)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(found, 2))
    for box in found:
        assert box.x0 > frame.x0 - 5
        assert box.x1 < frame.x1 + 5


def test_a_name_does_not_cover_a_mark_without_one():
    (alone,), _ = boxes([("name", 5, 5, RADIUS)])
    (aside,), _ = boxes([("name", 5, 5, RADIUS)], [(5, 5.5), (5, 5.6)])
    assert (alone.x0, alone.y0) != (aside.x0, aside.y0)
