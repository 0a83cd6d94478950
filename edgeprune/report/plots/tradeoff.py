"""Accuracy against latency, with the line beyond which nothing is both more accurate and faster."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import matplotlib as mpl
from matplotlib.figure import Figure

from edgeprune.metrics import Interval
from edgeprune.recipe import QUANTIZED
from edgeprune.report.plots.labels import label
from edgeprune.report.plots.style import BASELINE_HUE, INK, STYLE, WIDTH, hue, svg
from edgeprune.report.summary import METRICS, deciding, unit_of_time
from edgeprune.results import Measured, Measurement

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
        named = []
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
            if bars or point in best[:MOST_NAMES]:
                named.append((point.name, across, up, math.sqrt(area / math.pi)))
        right = 1.15 * per_ms * max(point.latency_ms for point in found)
        steps = [(per_ms * point.latency_ms, 100 * point.accuracy.estimate) for point in best]
        steps.append((right, steps[-1][1]))
        axes.plot(*zip(*steps, strict=True), color=INK, linewidth=0.9, alpha=0.5, drawstyle="steps-post", zorder=0)
        axes.set_xlabel(f"latency p50, {unit}")
        axes.set_ylabel(f"{quality(found[0].record)}, %")
        axes.set_xlim(0, right)
        axes.margins(y=0.18)
        axes.grid(visible=True)
        label(figure, axes, named)
        names = ", ".join(point.name for point in best)
        told = f"{quality(found[0].record)} against latency of {len(found)} variants; none beats {names} in both"
        return svg(figure, told)


def quality(record: Measurement) -> str:
    """What its accuracy is called."""
    accuracy = deciding(record)
    if accuracy is None or accuracy.metric == "top1":
        return "accuracy"
    return "agreement with FP32" if accuracy.metric == "agreement" else METRICS.get(accuracy.metric, accuracy.metric)
