"""Which plots a page has of a bundle, with what they show; one of which there is nothing to draw is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune.report.layers import LayerRow
from edgeprune.report.plots.latency import latency_distribution
from edgeprune.report.plots.layers import bits_per_layer, sensitivity_per_layer, time_per_layer
from edgeprune.report.plots.plans import tried_plans
from edgeprune.report.plots.roofline import roofline
from edgeprune.report.plots.sizes import size_breakdown
from edgeprune.report.plots.tradeoff import accuracy_against_latency
from edgeprune.report.source import Source


@dataclass(frozen=True)
class Picture:
    """A plot with what it shows."""

    title: str
    svg: str
    caption: str


def pictures(source: Source) -> tuple[Picture, ...]:
    """Of the bundle as a whole."""
    budgets = source.core.budgets if source.core is not None else {}
    return _drawn(
        (
            "Accuracy against latency",
            accuracy_against_latency(source.measured),
            "Up and to the left is better; nothing lies beyond the line. A disc's area is the size on disk; filled is"
            " quantized; a bar is the interval at 95 %.",
        ),
        (
            "How latency spreads",
            latency_distribution(source.measured),
            "Timed runs up to the slowest variant's p99, or thrice its median. Ticks below: each restart's median.",
        ),
        (
            "What the files hold",
            size_breakdown(source.measured, source.core),
            "Weights by the bits they are stored in. 4-bit ones become 8 bits when the file is opened.",
        ),
        (
            "How near the machine's limit",
            roofline(source.measured),
            "A roofline: caps are what this machine reaches at its measured peaks, marks what was reached, in percent."
            " Lines are the peaks; dashed where the bytes come from main memory.",
        ),
        (
            "Plans that were tried",
            tried_plans(source.tried, budgets.get("max_drop")),
            "Each is a precision for every layer, measured on the samples that select, with a standard error's margin."
            " Filled: the chosen one.",
        ),
    )


def layer_pictures(source: Source, rows: Sequence[LayerRow]) -> tuple[Picture, ...]:
    """Of every layer; their rows are the same, so that they can stand beside each other."""
    how = source.predicted.method if source.predicted is not None else ""
    return _drawn(
        ("Bits", bits_per_layer(rows, source.measured), "Of a weight on disk, on average."),
        (
            "Sensitivity",
            sensitivity_per_layer(rows),
            f"By how much the loss is predicted to rise where only this layer is narrowed, from its {how}.",
        ),
        (
            "Time",
            time_per_layer(rows, source.measured),
            "Of one inference, by the runtime's own profile; what runs along with a layer is counted with it.",
        ),
    )


def _drawn(*drawn: tuple[str, str | None, str]) -> tuple[Picture, ...]:
    return tuple(Picture(title, svg, caption) for title, svg, caption in drawn if svg is not None)
