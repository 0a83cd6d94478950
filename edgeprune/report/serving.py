"""What serving a trace came to: a table, and a page with every run over time. From plain numbers, as they are kept."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

Rows = Sequence[Mapping[str, Any]]
HUES = ("#3f83f8", "#2f9e60", "#e07a2f", "#a463d6")
"""Of the rungs, the most precise first."""
STYLE_SHEET = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem; text-align: right; }
td:first-child, th:first-child { text-align: left; } tr + tr td { border-top: 1px solid #8884; }
svg { width: 100%; height: auto; }
"""


def columns(summary: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of the table."""
    names = [rung["precision"] for rung in summary["ladder"]]
    head = ("run", "missed %", *(f"{name} %" for name in names), "accuracy %", "p50 ms", "p99 ms", "changes", "cpu %")
    rows = []
    for name, run in summary["runs"].items():
        accuracy = run["expected_accuracy"]
        rows.append(
            (
                name,
                f"{run['missed_percent']:.2f}",
                *(f"{100 * run['shares'][one]:.1f}" for one in names),
                "-" if accuracy is None else f"{100 * accuracy:.2f}",
                *(f"{run['latency_ms'][q]:.2f}" for q in ("50", "99")),
                str(run["changes"]),
                "-" if run["cpu"] is None else f"{100 * run['cpu']:.0f}",
            )
        )
    for name, found in summary["oracles"].items():
        shares = (f"{100 * found['shares'][one]:.1f}" for one in names)
        rows.append(
            (
                "  its oracle" if len(summary["oracles"]) == 1 else f"  oracle of {name}",
                f"{found['missed_percent']:.2f}",
                *shares,
                "",
                "",
                "",
                "",
                "",
            )
        )
    return head, rows


def table(summary: Mapping[str, Any]) -> Table:
    """For a terminal."""
    from rich import box
    from rich.table import Table

    head, rows = columns(summary)
    shown = Table(box=box.SIMPLE_HEAD, caption=caption(summary), caption_justify="left", title=title(summary))
    for i, name in enumerate(head):
        shown.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    return shown


def title(summary: Mapping[str, Any]) -> str:
    """What was served."""
    return (
        f"{Path(summary['bundle']).name} under {Path(summary['trace']).name}: {summary['requests']} requests in"
        f" {summary['seconds']:.1f} s, deadline {summary['deadline_ms']:.2f} ms"
    )


def caption(summary: Mapping[str, Any]) -> str:
    """What stands below the table, a line each."""
    lines = []
    for name, verdict in summary["verdicts"].items():
        of_oracle = verdict["share_of_oracle"]
        told = "the oracle serves none so" if of_oracle is None else f"{100 * of_oracle:.0f} % of the oracle's share"
        lines.append(
            f"{name}: {verdict['missed_more_than_fastest_percent']:+.2f} points missed beside the fastest fixed; {told}"
        )
    memory = ", ".join(f"{name} {taken / 1e6:.1f} MB" for name, taken in summary["resident_bytes"].items())
    added = ", ".join(f"{name} {100 * share:.0f} %" for name, share in summary["added_bytes"].items())
    lines += [f"in memory: {memory}", f"on disk beside the most precise: {added}"]
    joules = [
        f"{name} {1e3 * run['joules_per_request']:.3g} mJ"
        for name, run in summary["runs"].items()
        if run["joules_per_request"] is not None
    ]
    lines.append(
        f"energy of a request ({summary['power']}): {', '.join(joules)}" if joules else f"power: {summary['power']}"
    )
    lines += [f"left out: {name} {why}" for name, why in summary["left_out"].items()]
    return "\n".join(lines)


def keep(folder: Path, summary: Mapping[str, Any], series: Mapping[str, Rows], metrics: str) -> Path:
    """Write four files by the trace's name into a folder: numbers, series, metrics, page. Returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = Path(summary["trace"]).stem
    _write(folder / f"{stem}.json", json.dumps(summary, indent=1) + "\n")
    lines = [json.dumps({"run": name, **row}) + "\n" for name, rows in series.items() for row in rows]
    _write(folder / f"{stem}.jsonl", "".join(lines))
    _write(folder / f"{stem}.prom", metrics)
    page_path = folder / f"{stem}.html"
    _write(page_path, page(summary, series))
    return page_path


def page(summary: Mapping[str, Any], series: Mapping[str, Rows]) -> str:
    """A self-contained HTML page."""
    head, rows = columns(summary)
    told = html.escape(title(summary))

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    notes = "".join(f"<p>{html.escape(text)}</p>" for text in caption(summary).splitlines())
    pictures = "\n".join(
        f"<h2>{html.escape(name)}</h2>\n{timeline(summary, found)}" for name, found in series.items() if found
    )
    return (
        f"<!doctype html>\n<html lang=en><meta charset=utf-8><title>{told}</title><style>{STYLE_SHEET}</style>\n"
        f"<h1>{told}</h1>\n<table>\n{line(head, 'th')}\n{body}\n</table>\n{notes}\n{pictures}\n</html>\n"
    )


def timeline(summary: Mapping[str, Any], rows: Rows) -> str:
    """One run as an `<svg>` element: arrivals and queue, latency, precision, use of the processor, over time."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from edgeprune.report.plots.style import INK, STYLE, svg

    names, at = [rung["precision"] for rung in summary["ladder"]], [row["t_s"] for row in rows]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 5.4), layout="constrained")
        load, latency, precision, cpu = figure.subplots(4, sharex=True, height_ratios=(3, 3, 1.4, 1.4))
        load.plot(at, [row["arrivals_per_s"] for row in rows], color=HUES[0], linewidth=0.8)
        load.set_ylabel("arrivals/s")
        queue = load.twinx()
        queue.plot(at, [row["queue"] for row in rows], color=HUES[2], linewidth=0.8)
        queue.set_ylabel("queue", color=HUES[2])
        latency.plot(at, [row["latency_ms_max"] for row in rows], color=HUES[2], linewidth=0.8, label="longest")
        latency.plot(at, [row["latency_ms_median"] for row in rows], color=HUES[0], linewidth=0.8, label="median")
        latency.axhline(summary["deadline_ms"], color=INK, linewidth=0.6, linestyle=":", label="deadline")
        latency.set_yscale("log")
        latency.set_ylabel("latency, ms")
        latency.legend(frameon=False, fontsize=8, ncols=3, loc="upper left")
        totals = [max(1, row["served"]) for row in rows]
        shares = [
            [row["by_precision"][name] / total for row, total in zip(rows, totals, strict=True)] for name in names
        ]
        precision.stackplot(at, shares, labels=names, colors=HUES[: len(names)], linewidth=0)
        precision.set_ylabel("precision")
        precision.set_yticks([])
        precision.legend(frameon=False, fontsize=8, ncols=len(names), loc="upper left", bbox_to_anchor=(0, 1.5))
        cpu.plot(at, [row["cpu"] if row["cpu"] is not None else float("nan") for row in rows], color=HUES[1])
        cpu.set_ylim(0, 1.05)
        cpu.set_ylabel("cpu")
        cpu.set_xlabel("seconds")
        for axes in (load, latency, cpu):
            axes.grid(visible=True)
        return svg(figure, "arrivals, queue, latency, precision and use of the processor over time")


def _write(path: Path, text: str) -> None:
    """The file appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
