"""What the files of each variant are made of."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from edgeprune.bundle import Core, Variant
from edgeprune.report.plots.style import BITS_HUES, INK, STYLE, WIDTH, bits_hue, svg
from edgeprune.report.summary import unit_of_size
from edgeprune.results import Measured

REST = "graph, scales, biases"


def breakdown(variant: Variant, size_bytes: int) -> dict[str, int] | None:
    """Bytes by what they are: weights by their width, and the rest; None where the weights were not counted."""
    weights = {plan.weight: plan for plan in variant.layers}  # what layers share is stored once
    if not weights or any(plan.weights == 0 for plan in weights.values()):
        return None
    found = dict.fromkeys(BITS_HUES, 0.0)
    for plan in weights.values():
        for width, share in _widths(plan.weight_bits):
            found[width] += share * plan.weights * width / 8
    parts = {f"{width}-bit weights": round(size) for width, size in found.items()}
    parts[REST] = max(0, size_bytes - sum(parts.values()))
    return {name: size for name, size in parts.items() if size}


def _widths(bits: float) -> list[tuple[int, float]]:
    """The two widths that give so many bits on average, and the share of the weights that has each."""
    low = max((width for width in BITS_HUES if width <= bits), default=min(BITS_HUES))
    high = min((width for width in BITS_HUES if width > bits), default=low)
    wide = (bits - low) / (high - low) if high > low else 0.0
    return [(low, 1 - wide), (high, wide)]


def size_breakdown(measured: Measured, core: Core | None) -> str | None:
    """A bar for every variant, from the weights to what is no weight."""
    if core is None:
        return None
    sizes = {one.variant: one.size_bytes for one in (measured.baseline, *measured.measurements)}
    every = [one for one in (core.baseline, *core.variants) if one.name in sizes]
    found = [(one.name, parts) for one in every if (parts := breakdown(one, sizes[one.name])) is not None]
    if not found:
        return None
    unit, per_unit = unit_of_size(sizes.values())
    largest = max(sizes[name] for name, _ in found) / per_unit
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, max(2.2, 0.9 + 0.32 * len(found))), layout="constrained")
        axes = figure.add_subplot()
        for row, (_, parts) in enumerate(found):
            at = 0.0
            for part, size in parts.items():
                axes.barh(row, size / per_unit, 0.62, left=at, **_look(part))
                at += size / per_unit
            axes.text(at + 0.01 * largest, row, f"{at:,.1f}", va="center", fontsize=8)
        for part in dict.fromkeys(part for _, parts in found for part in parts):
            axes.barh(0, 0, label=part, **_look(part))
        axes.set_yticks(range(len(found)), [name for name, _ in found])
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, 1.13 * largest)
        axes.set_xlabel(f"size on disk, {unit}")
        axes.grid(visible=True, axis="x")
        figure.legend(loc="outside upper left", ncols=3, fontsize=8, handlelength=1, columnspacing=1)
        return svg(figure, f"what the files of {len(found)} variants are made of, in {unit}")


def _look(part: str) -> dict[str, Any]:
    """Weights have the hue of their width; what is none is hollow."""
    if part == REST:
        return {"facecolor": "none", "edgecolor": INK, "alpha": 0.6, "linewidth": 0.7}
    return {"color": bits_hue(float(part.partition("-")[0])), "alpha": 0.75, "linewidth": 0}
