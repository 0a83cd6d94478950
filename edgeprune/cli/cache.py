"""`edgeprune cache`: the finished stages that a second compile finds again."""

from __future__ import annotations

import click

from edgeprune.cli.output import Output, output_options


@click.group()
def cache() -> None:
    """List and remove the finished stages that are kept."""


@cache.command()
@output_options
def ls(output: Output) -> None:
    """List the stages that are kept, with sizes and ages."""
    import time
    from dataclasses import asdict

    from rich.table import Table

    from edgeprune.api import stage_cache
    from edgeprune.eviction import by_stage, kept_stages

    root = stage_cache().root
    uses = by_stage(kept_stages(root), time.time())
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("stage", "kept", "MB", "last used, days ago", "oldest"):
        table.add_column(title, justify="left" if title == "stage" else "right")
    for use in uses:
        mb = f"{use.size_bytes / 1e6:,.3f}"
        table.add_row(use.stage, str(use.count), mb, f"{use.newest_days:.1f}", f"{use.oldest_days:.1f}")
    total = sum(use.size_bytes for use in uses)
    output.show({"root": str(root), "stages": [asdict(use) for use in uses]}, table, f"{root}: {total:,} bytes")


@cache.command()
@click.option(
    "--older", type=click.FloatRange(min=0), default=0.0, metavar="DAYS", help="Only what was not used since."
)
@click.option("--stage", metavar="NAME", help="Only stages of this name.")
@output_options
def clean(older: float, stage: str | None, output: Output) -> None:
    """Remove stages, but none that a running process makes or reads."""
    import time

    from edgeprune.api import stage_cache
    from edgeprune.eviction import clean as clean_

    done = clean_(stage_cache().root, time.time(), older_days=older, stage=stage)
    used = f"; {len(done.in_use)} in use by a running process: left" if done.in_use else ""
    found = {"removed": len(done.removed), "freed_bytes": done.freed_bytes, "in_use": len(done.in_use)}
    output.show(found, f"{len(done.removed)} stages removed, {done.freed_bytes:,} bytes freed{used}")
