"""How the timed runs of each variant spread."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edgeprune.report.plots.style import INK, STYLE, WIDTH, hue, svg
from edgeprune.report.summary import unit_of_time
from edgeprune.results import Measured

BINS = 120
TAIL = 3
"""Medians of the slowest variant beyond which nothing is drawn."""


def latency_distribution(measured: Measured) -> str | None:
    """How the timed runs of each variant spread; a tick marks each restart's median. None where nothing was timed."""
    timed = [record for record in (measured.baseline, *measured.measurements) if record.samples]
    if not timed:
        return None
    unit, per_ms = unit_of_time(measured)
    low, high = _range([per_ms * np.concatenate(record.samples_ms) for record in timed])
    edges = np.linspace(low, high, BINS + 1)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, max(3.3, 0.8 + 0.42 * len(timed))), layout="constrained")
        axes = figure.add_subplot()
        for row, record in enumerate(reversed(timed)):
            _ridge(axes, row, hue(record), [per_ms * np.asarray(run) for run in record.samples_ms], edges)
        axes.set_yticks(range(len(timed)), [record.variant for record in reversed(timed)])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlim(low, high)
        axes.set_ylim(-0.3, len(timed))
        axes.set_xlabel(f"latency, {unit}")
        axes.grid(visible=True, axis="x")
        return svg(figure, f"how the latency of {len(timed)} variants spreads, in {unit}")


def _ridge(axes: Axes, row: int, colour: str, runs: Sequence[NDArray[np.float64]], edges: NDArray[np.float64]) -> None:
    """One variant's histogram standing on its own line, and a tick below it for the median of each restart."""
    counts, _ = np.histogram(np.concatenate(runs), edges)
    smooth = np.convolve(counts, [0.25, 0.5, 0.25], mode="same")
    height = 0.82 * smooth / max(smooth.max(), 1e-9)
    middles = (edges[:-1] + edges[1:]) / 2
    axes.fill_between(middles, row, row + height, color=colour, alpha=0.45, linewidth=0)
    axes.plot(middles, row + height, color=colour, linewidth=0.9)
    medians = [float(np.median(run)) for run in runs if len(run)]
    axes.plot(medians, [row - 0.13] * len(medians), "|", color=INK, markersize=4, markeredgewidth=0.8)


def _range(runs: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """From the fastest run to past the slowest variant's p99, or thrice its median where the machine was busy.

    A few hiccups must not flatten every shape.
    """
    low = min(float(run.min()) for run in runs)
    high = max(min(float(np.percentile(run, 99)), TAIL * float(np.median(run))) for run in runs)
    room = 0.05 * (high - low) or 0.05 * high
    return max(0.0, low - room), high + room
