"""One Markdown table over many bundles: what `bench_results/` shows on its first page."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune.report.summary import Cell, conditions, fallbacks, summarize
from edgeprune.results import Measured


def table(bundles: Sequence[tuple[str, Measured]]) -> str:
    """The variants of each named bundle, baseline first; then where they were measured, the notes and the fallbacks.

    Bundles that are judged by other metrics have tables of their own.
    """
    notes: list[str] = []
    remarks: list[str] = []
    parts: dict[tuple[str, ...], list[str]] = {}
    for name, measured in bundles:
        summarized = summarize(measured)
        numbers = [_number(notes, note) for note in summarized.notes]
        told = [conditions(measured), *summarized.remarks, *map(str, fallbacks(measured))]
        remarks += [f"{name}: {_plain(text)}" for text in told if text]
        titles = ("model", "variant", *(column.title for column in summarized.columns))
        head = [row(titles), row(["---", "---", *["--:"] * len(summarized.columns)])]
        lines = parts.setdefault(titles, head)
        for index, (variant, role) in enumerate(zip(summarized.names, summarized.roles, strict=True)):
            cells = [_cell(column.cells[index], column.unit, numbers) for column in summarized.columns]
            lines.append(row([name, f"{variant} ({role})" if role else variant, *cells]))
    lines = [line for part in parts.values() for line in (*part, "")][:-1]
    lines += ["", *(f"{number}. {_plain(note)}" for number, note in enumerate(notes, start=1))]
    lines += ["", *(f"- {remark}" for remark in remarks)]
    return "\n".join(lines) + "\n"


def _number(notes: list[str], note: str) -> int:
    if note not in notes:
        notes.append(note)
    return notes.index(note) + 1


def _cell(cell: Cell, unit: str, numbers: Sequence[int]) -> str:
    text = f"{cell.text} {unit}".strip() if cell.text[:1].isdigit() or cell.text[:2].strip("-").isdigit() else cell.text
    if cell.bounds:
        text += f" [{cell.bounds[0]}, {cell.bounds[1]}]"
    return text + (f" ({numbers[cell.note - 1]})" if cell.note else "")


def row(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{letter}" if letter in "|*_`<>\\" else letter for letter in text)
