"""How near each variant is to what the machine can do at most: the roofline of `edgeprune.roofline`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from edgeprune.recipe import QUANTIZED
from edgeprune.report.plots.labels import RADIUS, label
from edgeprune.report.plots.style import INK, STYLE, WIDTH, hue, svg
from edgeprune.report.summary import percent_of
from edgeprune.results import Measured
from edgeprune.roofline import KERNELS, Peaks

POINTS = 64
"""Of a roof, which bends once."""
ROOF: dict[str, Any] = {"color": INK, "alpha": 0.35, "linewidth": 0.8, "zorder": 1}


def roofline(measured: Measured) -> str | None:
    """Operations a second by operations for each byte; a bar from what was reached to the limit of that very work.

    Behind them the roofs, where the peaks are known: level per precision, and sloped for a working set that stays in
    the nearest cache and, dashed, for one that comes from main memory. None where no limit is known.
    """
    found = [
        (record, record.limit, p50, share)
        for record in (measured.baseline, *measured.measurements)
        if record.limit is not None and record.limit.operations and record.limit.bytes
        if (p50 := record.percentile_ms(50)) is not None and (share := record.limit_share) is not None
    ]
    if not found:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
        axes = figure.add_subplot()
        named, caps = [], []
        for record, limit, p50, share in found:
            reached, most, colour = limit.gops(p50), limit.gops(limit.ms), hue(record)
            axes.plot([limit.intensity] * 2, [reached, most], color=colour, alpha=0.45, linewidth=1.2)
            axes.plot(limit.intensity, most, "_", color=INK, markersize=13, markeredgewidth=1.2)
            filled = colour if record.precision in QUANTIZED else "none"
            axes.scatter(limit.intensity, reached, s=36, facecolors=filled, edgecolors=colour, zorder=3)
            caps.append((limit.intensity, most))
            named.append((f"{record.variant} {percent_of(share, 1)}", limit.intensity, reached, RADIUS))
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_locator(NullLocator())
        axes.margins(x=0.35, y=0.22)
        if measured.peaks is not None:
            caps += _roofs(axes, measured.peaks, [record.precision for record, *_ in found])
        axes.set_xlabel("operations for each byte")
        axes.set_ylabel("1e9 operations a second")
        axes.grid(visible=True)
        label(figure, axes, named, caps)
        return svg(figure, f"operations a second of {len(found)} variants beside the machine's limit for each")


def _roofs(axes: Axes, peaks: Peaks, precisions: Sequence[str]) -> list[tuple[float, float]]:
    """Draw them over the width that the points take, and give the places of their names."""
    across = np.geomspace(*axes.get_xlim(), POINTS)
    nearest, main = (rate(bandwidth for _, bandwidth in peaks.bytes_per_s) for rate in (max, min))
    computed = {KERNELS.get(one, one) for one in precisions} & peaks.ops_per_s.keys()
    levels = {one: peaks.operations(one) * 1e-9 for one in sorted(computed or {"fp32"})}
    for level in levels.values():
        axes.plot(across, np.minimum(level, across * nearest * 1e-9), **ROOF)
    axes.plot(across, np.minimum(max(levels.values()), across * main * 1e-9), linestyle=(0, (4, 3)), **ROOF)
    axes.set_xlim(across[0], across[-1])
    for name, level in levels.items():
        axes.annotate(name, (across[-1], level), (-2, 3), textcoords="offset pixels", ha="right", fontsize=7, alpha=0.7)
    return [(across[-1], level) for level in levels.values()]
