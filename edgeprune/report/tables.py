"""Tables for a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeprune.bundle import Core
from edgeprune.report.summary import (
    Column,
    Summary,
    apart,
    conditions,
    fallbacks,
    headline,
    judged_by,
    limits,
    percent,
    points,
    subject,
    summarize,
    training,
)
from edgeprune.results import Accuracy, Measured

SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def page(measured: Measured, core: Core | None = None) -> RenderableType:
    """All that a terminal shows of one bundle: what it is, its table, the notes to it, and what fell back."""
    summarized = summarize(measured, core)
    parts: list[RenderableType] = [
        Text(subject(measured, core), style="bold"),
        Text(conditions(measured), style="dim"),
        _table(summarized),
        *(Text(_line(column, summarized.names), style="dim") for column in summarized.columns if column.beside),
    ]
    parts += [Text(f"{_mark(number)} {note}", style="dim") for number, note in enumerate(summarized.notes, start=1)]
    parts += [Text(told, style="dim") for told in (training(core), limits(measured)) if told]
    parts += [Text(remark, style="yellow") for remark in summarized.remarks]
    if found := [pair for pair in apart(measured) if pair[1].split != "select"]:
        parts += [Text(), _apart(found)]
    parts += [Text(f"fallback: {fallback}", style="yellow") for fallback in fallbacks(measured)]
    parts += [Text(), Text(headline(measured))]
    return Group(*parts)


def summary(measured: Measured, core: Core | None = None) -> Table:
    """One row per variant, the baseline first; what is missing is a dash with the number of its note."""
    return _table(summarize(measured, core))


def _table(summarized: Summary) -> Table:
    columns = [_column(column) for column in summarized.columns if not column.beside]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
    table.add_column("variant", no_wrap=True)
    for heading, _ in columns:
        table.add_column(heading, no_wrap=True)
    rows = zip(*(cells for _, cells in columns), strict=True)
    for name, role, cells in zip(summarized.names, summarized.roles, rows, strict=True):
        label = Text(name, style="bold" if "default" in role else "")
        table.add_row(label.append(f"\n{role}", style="dim green" if "default" in role else "dim"), *cells)
    return table


def _column(column: Column) -> tuple[Text, list[Text]]:
    """A heading and its cells, set flush right but for the marks of notes, so that the digits stay aligned."""
    bounds = [f"[{cell.bounds[0]}, {cell.bounds[1]}]" if cell.bounds else "" for cell in column.cells]
    mark = max(len(_mark(cell.note)) for cell in column.cells)
    digits = max(len(text) for text in (column.title, column.unit, *(cell.text for cell in column.cells)))
    width = max(digits + mark, *map(len, bounds))
    cells = [
        Text(cell.text.rjust(width - mark)).append(_mark(cell.note) + "\n" + below.rjust(width), style="dim")
        for cell, below in zip(column.cells, bounds, strict=True)
    ]
    return Text(f"{column.title.rjust(width - mark)}\n{column.unit.rjust(width - mark)}"), cells


def _line(column: Column, names: Sequence[str]) -> str:
    cells = zip(names, column.cells, strict=True)
    told = ", ".join(f"{name} {cell.text}{_mark(cell.note)}" for name, cell in cells)
    return f"{column.title} ({column.unit}): {told}"


def _mark(number: int) -> str:
    return str(number).translate(SUPERSCRIPTS) if number else ""


def _apart(found: Sequence[tuple[str, Accuracy]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("apart", "variant", "samples", "accuracy %", "drop points"):
        table.add_column(title, justify="left" if title in ("apart", "variant") else "right", no_wrap=True)
    for variant, accuracy in found:
        value, drop = accuracy.value, accuracy.drop
        table.add_row(
            judged_by(accuracy),
            variant,
            f"{accuracy.samples:,}",
            f"{percent(value.estimate)} [{percent(value.low)}, {percent(value.high)}]",
            f"{points(drop.estimate)} [{points(drop.low)}, {points(drop.high)}]" if drop else "",
        )
    return table
