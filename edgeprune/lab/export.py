"""Put what was collected where `edgeprune report` reads measurements."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeprune.lab.journal import Journal
from edgeprune.report.bench_results import keep_all
from edgeprune.results import Measured


def export(journal: Journal, run: int, out: Path) -> None:
    """Write what a run measured as `<out>/<device>/<bundle>.json`, and the README. Raises OutputError."""

    def found() -> Iterator[tuple[Path, Measured]]:
        for record, measured in journal.measured(run=run):
            if measured is not None:
                yield out / record.job.device / f"{record.job.name}.json", measured

    keep_all(found(), out)
