"""A table of the operators of one variant for a terminal of 100 columns."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeprune.latency_table import Prediction, TimedVariant
from edgeprune.roofline import Peaks

ABSENT = "-"


def operator_page(variant: TimedVariant, before: Prediction | None, peaks: Peaks | None = None) -> RenderableType:
    """Distinct operators, those first that take most in all, and what the table said before it knew this network.

    With `peaks`, how much of what the machine can do at most each reaches.
    """
    title = Text(variant.name, style="bold")
    if variant.ms is None:
        return Group(title, Text(f"not measured: {variant.unmeasured}", style="yellow"))
    return Group(title, _table(variant, peaks), Text(foretold(variant.ms, before)), Text())


def foretold(measured_ms: float, before: Prediction | None) -> str:
    """Measured beside predicted, in one line."""
    told = f"measured {measured_ms:.4f} ms"
    if before is None:
        return f"{told}; predicted: nothing, there was no table before"
    if before.ms is None:
        more = f" and {len(before.unknown) - 1} more" if len(before.unknown) > 1 else ""
        return f"{told}; predicted: nothing, the table knew no {before.unknown[0]}{more}"
    off = 100 * (before.ms / measured_ms - 1)
    return f"{told}; predicted {before.ms:.4f} ms ({off:+.1f} %), {100 * before.interpolated:.0f} % of it interpolated"


def _table(variant: TimedVariant, peaks: Peaks | None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
    table.add_column("operator", overflow="fold")
    table.add_column("shapes", overflow="fold")
    table.add_column("precision", no_wrap=True)
    for heading in ("times", "ms each", "share %", "GOPS", *(["of limit %"] if peaks else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    assert variant.ms is not None
    limits = variant.limits(peaks) if peaks else [None] * len(variant.operators)
    rows = zip(variant.operators, limits, strict=True)
    for one, limit in sorted(rows, key=lambda row: -row[0].count * row[0].ms):
        share = 100 * one.count * one.ms / variant.ms
        gops = f"{one.gops:.1f}" if one.gops else ABSENT
        kind, shapes, precision = one.key.operator, one.key.shapes, one.key.precision
        reached = [] if limit is None else [f"{100 * limit.share(one.ms):.0f}" if one.ms else ABSENT]
        table.add_row(kind, shapes, precision, str(one.count), f"{one.ms:.4f}", f"{share:.1f}", gops, *reached)
    return table
