"""Layer by layer, in plots of equal rows that stand beside each other: bits, sensitivity, time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from edgeprune.report.layers import LayerRow
from edgeprune.report.plots.style import BASELINE_HUE, BITS_HUES, INK, NARROW, STYLE, bits_hue, hue, svg
from edgeprune.report.summary import default, unit_of_time
from edgeprune.results import Measured

ROW, ABOVE, BELOW = 0.17, 0.35, 0.42
"""Inches: of a layer, and of what stands over and under all of them."""
LONGEST_NAME = 26
FLOOR = 1e-9
"""Nats: what is predicted to cost less is drawn there, for the axis is logarithmic."""


def bits_per_layer(rows: Sequence[LayerRow], measured: Measured) -> str | None:
    """A cell for the weights of every layer, a column for each way in which variants store them."""
    patterns: dict[tuple[float | None, ...], list[str]] = {}
    for record in (measured.baseline, *measured.measurements):
        bits = tuple(row.uses[record.variant].bits if record.variant in row.uses else None for row in rows)
        if any(one is not None for one in bits):
            patterns.setdefault(bits, []).append(record.variant)
    if not rows or not patterns:
        return None

    def draw(axes: Axes) -> None:
        for column, bits in enumerate(patterns):
            for row, one in enumerate(bits):
                if one is not None:
                    cell = Rectangle((column + 0.04, row - 0.44), 0.92, 0.88, facecolor=bits_hue(one), alpha=0.5)
                    axes.add_patch(cell)
                    axes.text(column + 0.5, row, f"{one:.3g}", ha="center", va="center", fontsize=7)
        axes.set_xlim(0, len(patterns))
        axes.set_xticks([one + 0.5 for one in range(len(patterns))], [_shared(names) for names in patterns.values()])
        axes.tick_params(axis="x", length=0, labelsize=7)
        axes.xaxis.tick_top()
        axes.spines["bottom"].set_visible(False)

    return _plot(rows, draw, "bits of a weight, by layer and variant")


def sensitivity_per_layer(rows: Sequence[LayerRow]) -> str | None:
    """What each precision of each layer was predicted to cost, all others in float."""
    precisions = list(dict.fromkeys(precision for row in rows for precision in row.losses))
    if not precisions:
        return None

    def draw(axes: Axes) -> None:
        for precision, marker in zip(precisions, "os^vD", strict=False):
            found = [(max(row.losses[precision], FLOOR), at) for at, row in enumerate(rows) if precision in row.losses]
            colour = BITS_HUES.get(int("".join(filter(str.isdigit, precision)) or 32), INK)
            axes.plot(*zip(*found, strict=True), marker, color=colour, markersize=4, label=precision)
        for at, row in enumerate(rows):
            if len(row.losses) > 1:
                ends = [max(loss, FLOOR) for loss in row.losses.values()]
                axes.plot([min(ends), max(ends)], [at, at], color=INK, alpha=0.25, linewidth=0.7, zorder=0)
        axes.set_xscale("log")
        axes.set_xlabel("rise of the loss, nats per sample", fontsize=8)
        axes.grid(visible=True, axis="x")
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=len(precisions), fontsize=7.5, handletextpad=0.1, borderpad=0
        )

    return _plot(rows, draw, f"predicted cost of {' and '.join(precisions)}, by layer")


def time_per_layer(rows: Sequence[LayerRow], measured: Measured) -> str | None:
    """What each layer takes of an inference: the default variant before the baseline."""
    unit, per_ms = unit_of_time(measured)
    shown = {record.variant: record for record in (measured.baseline, default(measured)) if record is not None}
    times = {name: [row.uses[name].ms if name in row.uses else None for row in rows] for name in shown}
    drawn = [(shown[name], found) for name, found in times.items() if any(ms is not None for ms in found)]
    if not drawn:
        return None

    def draw(axes: Axes) -> None:
        for (record, found), (height, alpha) in zip(drawn, ((0.78, 0.35), (0.42, 0.9)), strict=False):
            colour = BASELINE_HUE if record is measured.baseline else hue(record)
            bars = [(at, per_ms * ms) for at, ms in enumerate(found) if ms is not None]
            places, widths = zip(*bars, strict=True)
            axes.barh(places, widths, height, color=colour, alpha=alpha, linewidth=0, label=record.variant)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"time, {unit}", fontsize=8)
        axes.grid(visible=True, axis="x")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=7.5, borderpad=0)

    return _plot(rows, draw, "time of an inference, by layer")


def short_names(names: Sequence[str]) -> list[str]:
    """Without the modules that all of them lie in, and of long ones the end.

    >>> short_names(["net.layer1.conv", "net.layer2.conv", "head"])
    ['layer1.conv', 'layer2.conv', 'head']
    >>> short_names(["encoder.layers.0.attention.query_projection"])
    ['…attention.query_projection']
    """
    inner = [name.split(".")[:-1] for name in names if "." in name]
    common = takewhile(lambda level: len(set(level)) == 1, zip(*inner, strict=False))
    shared = len(list(common)) if len(inner) > 1 else 0
    return [_end_of(name.split(".")[shared if "." in name else 0 :]) for name in names]


def _end_of(parts: Sequence[str]) -> str:
    kept = len(parts)
    while kept > 1 and len(".".join(parts[-kept:])) > LONGEST_NAME:
        kept -= 1
    return "…" * (kept < len(parts)) + ".".join(parts[-kept:])[-LONGEST_NAME:]


def _plot(rows: Sequence[LayerRow], draw: Callable[[Axes], None], told: str) -> str:
    height = ABOVE + ROW * len(rows) + BELOW
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(NARROW, height))
        names = short_names([row.name for row in rows])
        left = min(0.42, (0.12 + 0.058 * max(map(len, names))) / NARROW)
        axes = figure.add_axes((left, BELOW / height, 0.97 - left, ROW * len(rows) / height))
        draw(axes)
        axes.set_yticks(range(len(rows)), names, fontsize=7)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelsize=8)
        axes.spines["left"].set_visible(False)
        return svg(figure, told)


def _shared(variants: Sequence[str]) -> str:
    """What variants that store alike are called together."""
    precisions = list(dict.fromkeys(name.rpartition("-")[2] for name in variants))
    if len(variants) > 1 and len(precisions) <= 2:
        return "\n".join(precisions)
    return "\n".join(variants[:2]) if len(variants) <= 2 else f"{variants[0]}\n+ {len(variants) - 1}"
