"""What a terminal shows of a lab."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from edgeprune.results import MB

if TYPE_CHECKING:
    from edgeprune.lab.check import Health
    from edgeprune.lab.journal import Run
    from edgeprune.lab.tables import Change


def health_lines(health: Health) -> Iterator[RenderableType]:
    """A device, what is there, and what to do about it."""
    style = {"ready": "green", "in use": "yellow"}.get(health.state, "red")
    emulated = ", emulated" if health.emulated else ""
    yield Text(f"{health.name}: {health.state}", style=style).append(f"  {health.target}", style="dim")
    if health.machine:
        yield Text(f"  {health.machine}{emulated}", style="dim")
    if health.versions is not None:
        yield Text(f"  {', '.join(f'{name} {version}' for name, version in health.versions.items())}", style="dim")
    if health.free_disk_bytes is not None and health.free_memory_bytes is not None:
        hot = "" if health.temperature_c is None else f", {health.temperature_c:.0f} degrees"
        yield Text(
            f"  free: {health.free_disk_bytes / MB:,.0f} MB of disk, {health.free_memory_bytes / MB:,.0f} MB of memory;"
            f" {health.power_mode}{hot}; meter: {health.meter}",
            style="dim",
        )
    yield from (Text(f"  {fault}", style="red") for fault in health.faults)
    yield from (Text(f"  {warning}", style="yellow") for warning in health.warnings)


def run_lines(runs: Sequence[Run]) -> Iterator[RenderableType]:
    """Every run and how far it came."""
    for one in runs:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(one.counts.items()))
        yield f"run {one.id}: {one.started_at[:16].replace('T', ' ')} UTC, {counts}{'' if one.ended_at else ', open'}"


def change_lines(found: Sequence[Change], since: int) -> Iterator[RenderableType]:
    """A row for each change."""
    if not found:
        yield f"nothing has changed since run {since} that can be told"
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("device", "model", "variant", "what", f"run {since}", "now"):
        table.add_column(title)
    for one in found:
        table.add_row(one.device, one.model, one.variant, one.what, one.before, one.after)
    yield table
