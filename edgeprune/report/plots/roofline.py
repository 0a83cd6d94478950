"""How near each variant is to what the machine can do at most: the roofline of `edgeprune.roofline`."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from edgeprune.recipe import QUANTIZED
from edgeprune.report.plots.labels import RADIUS, label
from edgeprune.report.plots.style import INK, STYLE, WIDTH, hue, svg
from edgeprune.report.summary import percent_of
from edgeprune.results import Measured


def roofline(measured: Measured) -> str | None:
    """Operations a second by operations for each byte; a bar from what was reached to the limit of that very work.

    None where no limit is known.
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
        axes.set_xlabel("operations for each byte")
        axes.set_ylabel("1e9 operations a second")
        axes.grid(visible=True)
        label(figure, axes, named, caps)
        return svg(figure, f"operations a second of {len(found)} variants beside the machine's limit for each")
