"""What a dry run says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgeprune.pipeline.forecast import Forecast

MB = 1_000_000


def lines(found: Forecast) -> Iterator[RenderableType]:
    """A table of the stages, then time and room in words."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("stage", "", "last took"):
        table.add_column(title)
    for stage in found.stages:
        last = "" if stage.done or stage.last_seconds is None else f"{stage.last_seconds:.1f} s, for whatever job"
        table.add_row(stage.name, "done before" if stage.done else "to do", last)
    table.add_row("measure", "to do unless done", "")
    yield table
    yield f"variants: {', '.join(found.variants)}"
    if found.epoch_seconds is not None:
        minutes = found.epochs * found.epoch_seconds / 60
        yield (
            f"training: about {minutes:.1f} min, {found.epochs} epochs of {found.epoch_seconds:.1f} s"
            " (from a few timed steps, unpruned)"
        )
    if found.measure_seconds is None:
        yield "measuring: nothing is timed, the device is not here"
    else:
        yield f"measuring: {found.measure_seconds:.0f} s at least, and the time that judging accuracy takes"
    yield f"disk: about {found.disk_bytes / MB:.1f} MB for the bundle ({found.parameters:,} weights, unpruned)"
