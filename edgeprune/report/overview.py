"""Bundles side by side for a terminal of 100 columns: a row each, a table for what was measured alike."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeprune.report import tables
from edgeprune.report.alike import groups
from edgeprune.report.source import Source
from edgeprune.report.summary import fallbacks
from edgeprune.report.worth import TITLES, Value, worth

TOLD = "each row: a bundle's default variant beside its own FP32 baseline; intervals are at 95 %"


def overview(sources: Sequence[Source]) -> RenderableType:
    """A single bundle in full, several in a row each."""
    if len(sources) == 1:
        return tables.page(sources[0].measured, sources[0].core)
    parts: list[RenderableType] = []
    for group in groups(sources):
        parts += [Text(group.title, style="bold"), _table(group.sources), Text()]
    return Group(*parts, Text(TOLD, style="dim"))


def _table(sources: Sequence[Source]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
    table.add_column("bundle", overflow="fold")
    for title in TITLES:
        table.add_column(title.removesuffix(" lost").replace("latency ", ""), justify="right", no_wrap=True)
    table.add_column("fell back", justify="right", no_wrap=True)
    for source in sources:
        values = worth(source.measured) or dict.fromkeys(TITLES, Value("-"))
        fell = sum(len(one.layers) for one in fallbacks(source.measured))
        table.add_row(
            Text(source.name).append(f"\n{source.measured.default or 'no default'}", style="dim"),
            *(_cell(values[title]) for title in TITLES),
            Text(str(fell), style="yellow") if fell else "",
        )
    return table


def _cell(value: Value) -> Text:
    below = value.below.replace(", ", "\n")
    return Text(value.text).append(f"\n{below}", style="dim") if below else Text(value.text)
