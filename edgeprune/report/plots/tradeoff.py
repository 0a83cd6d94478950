"""Accuracy against latency, with the line beyond which nothing is both more accurate and faster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edgeprune.metrics import Interval
from edgeprune.recipe import QUANTIZED
from edgeprune.report.plots.style import BASELINE_HUE, INK, STYLE, WIDTH, hue, svg
from edgeprune.report.summary import METRICS, deciding, unit_of_time
from edgeprune.results import Measured, Measurement

Box = tuple[float, float, float, float]
MOST_NAMES = 12
"""In one picture; of more points, those on the line have theirs."""


@dataclass(frozen=True)
class Point:
    """A variant in the plane."""

    name: str
    record: Measurement
    latency_ms: float
    accuracy: Interval
    colour: str


def points(measured: Measured) -> list[Point]:
    """Of every variant that has both a latency and an accuracy."""
    return [
        Point(record.variant, record, latency, accuracy.value, hue(record))
        for record in (measured.baseline, *measured.measurements)
        if (latency := record.percentile_ms(50)) is not None and (accuracy := deciding(record)) is not None
    ]


def front(found: Iterable[Point]) -> list[Point]:
    """Those than which none is both faster and at least as accurate, from the fastest on."""
    best: list[Point] = []
    for point in sorted(found, key=lambda one: (one.latency_ms, -one.accuracy.estimate)):
        if not best or point.accuracy.estimate > best[-1].accuracy.estimate:
            best.append(point)
    return best


def accuracy_against_latency(measured: Measured) -> str | None:
    """Each variant as a disc whose area is its size, with its accuracy interval; None where nothing was timed."""
    return tradeoff(points(measured), *unit_of_time(measured))


def overall(named: Sequence[tuple[str, Measured]]) -> str | None:
    """The default variants of bundles that were judged by the same samples, and their baselines."""
    found = []
    for name, measured in named:
        by_variant = {point.record.variant: point for point in points(measured)}
        if measured.default != (baseline := measured.baseline.variant) and baseline in by_variant:
            found.append(replace(by_variant[baseline], name=f"{name}, baseline", colour=BASELINE_HUE))
        if measured.default in by_variant:
            found.append(replace(by_variant[measured.default], name=name))
    slow = max((point.latency_ms for point in found), default=0) >= 1
    return tradeoff(found, *(("ms", 1.0) if slow else ("µs", 1000.0)))


def tradeoff(found: Sequence[Point], unit: str, per_ms: float) -> str | None:
    """The same of any variants that may be compared; None where there are none. Up and to the left is better."""
    if not found:
        return None
    largest = max(point.record.size_bytes for point in found)
    best = front(found)
    bars = len(found) <= MOST_NAMES
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
        axes = figure.add_subplot()
        for point in found:
            colour, value = point.colour, point.accuracy
            across, up = per_ms * point.latency_ms, 100 * value.estimate
            area = (20 if bars else 8) + (600 if bars else 150) * point.record.size_bytes / largest
            if bars:
                # of 0 or all samples right, rounding can leave a bound on the wrong side of the estimate
                bar = [[100 * max(0.0, value.estimate - value.low)], [100 * max(0.0, value.high - value.estimate)]]
                axes.errorbar(across, up, yerr=bar, color=colour, alpha=0.5, linewidth=1, capsize=2)
            filled = colour if point.record.precision in QUANTIZED else "none"
            axes.scatter(across, up, s=area, facecolors=filled, edgecolors=colour, alpha=0.8)
        right = 1.15 * per_ms * max(point.latency_ms for point in found)
        steps = [(per_ms * point.latency_ms, 100 * point.accuracy.estimate) for point in best]
        steps.append((right, steps[-1][1]))
        axes.plot(*zip(*steps, strict=True), color=INK, linewidth=0.9, alpha=0.5, drawstyle="steps-post", zorder=0)
        axes.set_xlabel(f"latency p50, {unit}")
        axes.set_ylabel(f"{quality(found[0].record)}, %")
        axes.set_xlim(0, right)
        axes.margins(y=0.18)
        axes.grid(visible=True)
        _label(figure, axes, [(one.name, per_ms * one.latency_ms, 100 * one.accuracy.estimate) for one in
                              (found if bars else best[:MOST_NAMES])])  # fmt: skip
        names = ", ".join(point.name for point in best)
        told = f"{quality(found[0].record)} against latency of {len(found)} variants; none beats {names} in both"
        return svg(figure, told)


def quality(record: Measurement) -> str:
    """What its accuracy is called."""
    accuracy = deciding(record)
    if accuracy is None or accuracy.metric == "top1":
        return "accuracy"
    return "agreement with FP32" if accuracy.metric == "agreement" else METRICS.get(accuracy.metric, accuracy.metric)


def _label(figure: Figure, axes: Axes, named: Sequence[tuple[str, float, float]]) -> None:
    """Write each name beside its point, at the first place round it where it covers no point and no other name."""
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    centres = [axes.transData.transform((x, y)) for _, x, y in named]
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in centres]
    for (name, x, y), (across, up) in zip(named, centres, strict=True):
        half, height = 2.7 * len(name), 12
        places = [(dx, dy) for dy in (17, -17, 30, -30, 43, -43) for dx in (0, half, -half)]
        boxes = [
            (across + dx - half, up + dy - height / 2, across + dx + half, up + dy + height / 2) for dx, dy in places
        ]
        costs = [
            sum(_overlap(box, other) for other in taken) + _area(box) - _overlap(box, _box(frame.extents))
            for box in boxes
        ]
        best = min(range(len(places)), key=lambda index: (costs[index], index))
        taken.append(boxes[best])
        axes.annotate(name, (x, y), places[best], textcoords="offset pixels", ha="center", va="center", fontsize=8)


def _box(extents: Iterable[float]) -> Box:
    left, bottom, right, top = (float(one) for one in extents)
    return left, bottom, right, top


def _area(box: Box) -> float:
    return _overlap(box, box)


def _overlap(one: Box, other: Box) -> float:
    """Shared area of two boxes: left, bottom, right, top."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
