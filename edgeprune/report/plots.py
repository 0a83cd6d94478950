"""Plots as inline SVG: text stays text, ink takes the page's own colour, so one picture suits dark and light pages."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edgeprune.recipe import QUANTIZED
from edgeprune.report.summary import deciding, unit_of_time
from edgeprune.results import Measured, Measurement

# Mid-tones that stand out from white and from near-black alike; one hue per runtime.
HUES = {"ort": "#3f83f8", "openvino": "#e07a2f", "tensorrt": "#2f9e60"}
SPARE_HUE = "#a463d6"
INK = "#010203"
"""Stands for the page's text colour: matplotlib cannot write `currentColor`, so it is put in afterwards."""
Box = tuple[float, float, float, float]
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgeprune",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.linewidth": 0.6,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
}


def accuracy_against_latency(measured: Measured) -> str | None:
    """Each variant as a disc whose area is its size on disk, with its accuracy interval; None where nothing was timed.

    Up and to the left is better.
    """
    unit, per_ms = unit_of_time(measured)
    placed = [
        (record, latency * per_ms, accuracy.value)
        for record in (measured.baseline, *measured.measurements)
        if (latency := record.percentile_ms(50)) is not None and (accuracy := deciding(record)) is not None
    ]
    if not placed:
        return None
    largest = max(record.size_bytes for record, _, _ in placed)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 3.8), layout="constrained")
        axes = figure.add_subplot()
        for record, latency, value in placed:
            hue = _hue(record)
            area = 30 + 900 * record.size_bytes / largest
            # of 0 or all samples right, rounding can leave a bound on the wrong side of the estimate
            bar = [[100 * max(0.0, value.estimate - value.low)], [100 * max(0.0, value.high - value.estimate)]]
            axes.errorbar(latency, 100 * value.estimate, yerr=bar, color=hue, alpha=0.55, linewidth=1, capsize=2)
            filled = hue if record.precision in QUANTIZED else "none"
            axes.scatter(latency, 100 * value.estimate, s=area, facecolors=filled, edgecolors=hue, alpha=0.75)
        axes.set_xlabel(f"latency p50, {unit}")
        axes.set_ylabel("accuracy, %")
        axes.set_xlim(0, 1.15 * max(latency for _, latency, _ in placed))
        axes.margins(y=0.18)
        axes.grid(visible=True)
        _label(figure, axes, [(record.variant, latency, 100 * value.estimate) for record, latency, value in placed])
        return svg(figure)


def latency_distribution(measured: Measured) -> str | None:
    """How the timed runs of each variant spread; a tick marks each restart's median. None where nothing was timed."""
    timed = [record for record in (measured.baseline, *measured.measurements) if record.samples]
    if not timed:
        return None
    unit, per_ms = unit_of_time(measured)
    low, high = _range([per_ms * np.concatenate(record.samples_ms) for record in timed])
    edges = np.linspace(low, high, 161)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 0.9 + 0.5 * len(timed)), layout="constrained")
        axes = figure.add_subplot()
        for row, record in enumerate(reversed(timed)):
            _ridge(axes, row, _hue(record), [per_ms * np.asarray(run) for run in record.samples_ms], edges)
        axes.set_yticks(range(len(timed)), [record.variant for record in reversed(timed)])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlim(low, high)
        axes.set_ylim(-0.25, len(timed))
        axes.set_xlabel(f"latency, {unit}")
        axes.grid(visible=True, axis="x")
        return svg(figure)


def _label(figure: Figure, axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Write each name beside its point, at the first place round it where it covers no point and no other name."""
    figure.draw_without_rendering()
    centres = [axes.transData.transform((x, y)) for _, x, y in points]
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in centres]
    for (name, x, y), (across, up) in zip(points, centres, strict=True):
        half, height = 3.6 * len(name), 13
        places = [(dx, dy) for dy in (20, -20, 34, -34, 48, -48) for dx in (0, half, -half)]
        boxes = [
            (across + dx - half, up + dy - height / 2, across + dx + half, up + dy + height / 2) for dx, dy in places
        ]
        best = min(range(len(places)), key=lambda index: (sum(_overlap(boxes[index], other) for other in taken), index))
        taken.append(boxes[best])
        axes.annotate(name, (x, y), places[best], textcoords="offset pixels", ha="center", va="center", fontsize=9)


def _overlap(one: Box, other: Box) -> float:
    """Shared area of two boxes: left, bottom, right, top."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _ridge(axes: Axes, row: int, hue: str, runs: Sequence[NDArray[np.float64]], edges: NDArray[np.float64]) -> None:
    """One variant's histogram standing on its own line, and a tick below it for the median of each restart."""
    counts, _ = np.histogram(np.concatenate(runs), edges)
    smooth = np.convolve(counts, [0.25, 0.5, 0.25], mode="same")
    height = 0.82 * smooth / max(smooth.max(), 1e-9)
    middles = (edges[:-1] + edges[1:]) / 2
    axes.fill_between(middles, row, row + height, color=hue, alpha=0.45, linewidth=0)
    axes.plot(middles, row + height, color=hue, linewidth=0.9)
    medians = [float(np.median(run)) for run in runs if len(run)]
    axes.plot(medians, [row - 0.09] * len(medians), "|", color=INK, markersize=6, markeredgewidth=1)


def _range(runs: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """From the fastest run to past the slowest variant's p99: a single hiccup must not flatten every shape."""
    low = min(float(run.min()) for run in runs)
    high = max(float(np.percentile(run, 99)) for run in runs)
    room = 0.05 * (high - low) or 0.05 * high
    return max(0.0, low - room), high + room


def _hue(record: Measurement) -> str:
    return HUES.get(record.backend, SPARE_HUE) if record.variant != "baseline" else "#8a8f98"


def svg(figure: Figure) -> str:
    """The picture as an `<svg>` element that takes its ink, font and width from the page."""
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r' id="[A-Za-z]\w*_\d+"', "", text)  # names of groups, the same in every picture of a page
    return re.sub(r"(\d\.\d\d)\d+", r"\1", text)
