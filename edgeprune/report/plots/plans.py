"""The plans that were tried on the way to `mixed`: how large their files are, and what they lose."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from edgeprune.decisions import TriedPlan
from edgeprune.report.plots.style import BITS_HUES, INK, STYLE, WIDTH, svg
from edgeprune.report.summary import unit_of_size


def tried_plans(tried: Sequence[TriedPlan], max_drop: float | None) -> str | None:
    """A mark for every plan, the chosen one filled, and a line where too much is lost; None of fewer than two."""
    if len(tried) < 2:
        return None
    unit, per_unit = unit_of_size([one.file_bytes for one in tried])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        axes = figure.add_subplot()
        for one in tried:
            face = BITS_HUES[4] if one.chosen else "none"
            size = 60 if one.chosen else 26
            edge = BITS_HUES[4] if one.chosen else BITS_HUES[8]
            axes.scatter(one.file_bytes / per_unit, one.lost_points, s=size, facecolors=face, edgecolors=edge)
        if max_drop is not None:
            axes.axhline(max_drop, color=INK, alpha=0.6, linewidth=0.9, linestyle=(0, (4, 3)))
            axes.annotate(
                f"at most {max_drop:g}", (1, max_drop), (0, 3), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="right", fontsize=8,
            )  # fmt: skip
        axes.set_xlabel(f"file, {unit}")
        axes.set_ylabel("points lost")
        axes.margins(x=0.1, y=0.2)
        axes.grid(visible=True)
        chosen = next((one for one in tried if one.chosen), None)
        of = f"; the chosen one loses {chosen.lost_points:.2f}" if chosen is not None else ""
        return svg(figure, f"{len(tried)} plans: points lost by size of the file{of}")
